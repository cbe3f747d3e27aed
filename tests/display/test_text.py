from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.analysis.table import BestRun, RunSummary
from parallel_hpo.core.messages import MissingMetric
from parallel_hpo.core.notices import Message, Notice, RunOver, WorkerChanged, WorkerNamed
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState
from parallel_hpo.display.text import (
    Varied,
    Verbosity,
    best_so_far,
    brief,
    describe,
    describe_result,
    duration,
    prefix,
    progress,
    progress_bar,
)
from parallel_hpo.records.reader import MachineSummary
from tests.display.conftest import OPENED, began, counts_of, output, over
from tests.results import RESULT

FAILED, CRASHED = Outcome.FAILED, Outcome.CRASHED
MISSED = MissingMetric("NaN", ("loss", *(f"m{n}" for n in range(11))))
SWEEP = "sweep local/digits/s1 (local)"
ENDED = "w0 run r1 crashed in 1.5 s "
NAMES = "loss, m0, m1, m2, m3, m4, m5, m6, m7, m8"
WITHOUT = "warning: a run finished without a number for the sweep's metric 'loss':"


def said(notice: Notice, verbosity: Verbosity = Verbosity.NORMAL) -> str | None:
    text = describe(notice, counts_of([]), None, verbosity)
    return None if text is None else text.plain


@pytest.mark.parametrize(
    ("notice", "words", "is_problem"),
    [
        (OPENED, f"{SWEEP}: 4 runs on 2 workers (shares 2, 2)\nhttp://x/s1\nlogs: /logs/s1", False),
        (began(5), "w0 run r5 started  x=5", False),
        (began(5, attempt=2), "w0 run r5 started again (attempt 2)  x=5", False),
        (over(value=0.93), "w0 run r1 finished in 1.5 s  loss=0.93", False),
        (over(outcome=CRASHED, reason="exit 3", again=True), f"{ENDED} exit 3; it will be retried", False),
        (WorkerChanged(Slot(1), SlotState.BACKOFF, "x"), "w1 died and will be restarted: x", True),
        (WorkerChanged(Slot(1), SlotState.FATAL, "died 5 times"), "w1 gave up: died 5 times", True),
        (Message("hello"), "hello", False),
        (Message("no credentials", warning=True), "warning: no credentials", True),
        (MISSED, f"{WITHOUT} got NaN; it logged {NAMES} and 2 more; the nearest name is 'm9'", True),
        (MissingMetric("nothing", ()), f"{WITHOUT} got nothing; it logged nothing at all", True),
        (WorkerChanged(Slot(1), SlotState.STARTING), None, False),
        (output("x"), None, False),
    ],
)
def test_a_notice_has_the_expected_text_and_quiet_shows_only_problems(
    notice: Notice, words: str | None, is_problem: bool
) -> None:
    assert said(notice) == words
    assert said(notice, Verbosity.QUIET) == (words if is_problem else None)


def test_a_verbose_display_shows_worker_states() -> None:
    assert said(WorkerChanged(Slot(1), SlotState.STARTING), Verbosity.VERBOSE) == "w1 starting"


def test_workers_are_shown_by_their_names() -> None:
    counts = counts_of([WorkerNamed(Slot(1), "gpu2/w0")])
    shown = describe(began(slot=1), counts, None, Verbosity.NORMAL)
    assert shown is not None
    assert shown.plain.startswith("gpu2/w0 run r1 started")
    assert [prefix(Slot(slot), counts) for slot in (0, 1)] == ["[w0] ", "[gpu2/w0] "]


@given(st.lists(st.builds(over, outcome=st.sampled_from(Outcome), again=st.booleans())))
def test_each_ended_run_is_counted_once_and_retried_attempts_are_not(notices: list[RunOver]) -> None:
    assert counts_of(notices).over == sum(not notice.again for notice in notices)


@pytest.mark.parametrize(("goal", "best"), [("minimize", "r3  loss=1"), ("maximize", "r4  loss=3")])
def test_the_best_run_follows_the_goal(goal: str, best: str) -> None:
    values = (2.0, None, 1.0, 3.0, float("nan"), float("inf"), float("-inf"))
    runs = [over(number, value) for number, value in enumerate(values, 1)]
    counts = counts_of([replace(OPENED, goal=goal), *runs, over(value=0.0, outcome=FAILED)])
    shown = best_so_far(counts, None)
    assert shown is not None and shown.plain.strip() == f"best: run {best}"
    assert best_so_far(counts_of([over()]), None) is None


def test_the_progress_line_has_counts_and_remaining_time() -> None:
    assert progress(counts_of([]), 0.0).plain == "0/4 runs · 0 running · 0 failed"
    counts = counts_of([over(value=0.93), over(outcome=FAILED), began()], 10.0)
    assert progress(counts, 10.0).plain == "2/4 runs · 1 running · 1 failed · 10.0 s left"
    endless = counts_of([replace(OPENED, count=None), over()], 10.0)
    assert progress(endless, 10.0).plain == "1 runs · 0 running · 0 failed"


def test_the_progress_bar_is_not_longer_than_its_width() -> None:
    assert progress_bar(counts_of([over()] * 6 + [began()]), 15).plain == "━" * 15 + " "


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.97, "1 min 0 s"), (125, "2 min 5 s"), (3780, "1 h 3 min")],
)
def test_a_duration_has_a_suitable_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("parameters", "varied", "words"),
    [
        ({"a": {"lr": 0.1, "x": 1}, "b": {"x": 2}, "x": 3}, None, "lr=0.1 a.x=1 b.x=2 x=3"),
        ({"m": {"net": {"lr": 3, "type": "cnn"}}, "seed": 1}, frozenset({("m", "net", "lr")}), "lr=3"),
        ({"opt": {"name": "adam", "lr": 0.1}, "empty": {}}, frozenset({("opt",)}), "name=adam lr=0.1"),
        ({"x": "y" * 1000}, None, f"x={'y' * 39}…"),
    ],
)
def test_varied_parameters_are_shown_with_their_shortest_unique_names(
    parameters: dict[str, Any], varied: Varied, words: str
) -> None:
    assert brief(parameters, varied) == words


def ended(**changes: Any) -> list[str]:
    """Return the lines at the end of a sweep of three runs with these changes."""
    best = BestRun(run_id=RunId("r1"), value=0.25, parameters={"lr": 0.1, "fixed": 1})
    three: SweepResult = replace(RESULT, attempted=3, finished=3, best=best, duration_s=12.3)
    shown = describe_result(replace(three, **changes), counts_of([]), frozenset({("lr",)}))
    return [text.plain for text in shown]


def test_the_end_shows_counts_best_run_reason_and_folder() -> None:
    assert ended() == [
        "3 runs in 12.3 s: 3 finished",
        "best: run r1  loss=0.25  lr=0.1",
        "ended: count reached",
        "summary and logs: /logs/s1",
    ]


def failed(outcome: Outcome, reason: str) -> RunSummary:
    return RunSummary(RunId("r"), {}, 1, outcome, reason, 1.0, Slot(0), "cpu")


def test_failures_are_grouped_by_their_reason() -> None:
    runs = (*[failed(FAILED, "ValueError: x")] * 3, failed(CRASHED, "SIGKILL"))
    assert ended(attempted=5, finished=1, failed=3, crashed=1, runs=runs)[:3] == [
        "5 runs in 12.3 s: 1 finished, 3 failed, 1 crashed",
        "  3 × failed: ValueError: x",
        "  1 × crashed: SIGKILL",
    ]
    different = tuple(failed(FAILED, f"exit {code}") for code in range(1, 9))
    assert "  and 3 more, in the summary" in ended(failed=8, runs=different)


def test_the_end_shows_machines_retried_and_lost_runs_and_a_missing_best_run() -> None:
    machines = (MachineSummary("gpu1", 2, 3, "left"), MachineSummary("gpu2", 1, 1, ""))
    counts, best, by_machine, *_ = ended(retried=2, lost=1, best=None, machines=machines)
    assert "; 2 attempts retried; 1 lost, which is a bug" in counts
    assert best == "no run finished with a value to compare"
    assert by_machine == "runs by machine: gpu1 2, gpu2 1"
