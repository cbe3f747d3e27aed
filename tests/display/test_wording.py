from __future__ import annotations

import pytest

from parallel_hpo.core.messages import MissingMetric
from parallel_hpo.core.notices import (
    Message,
    Notice,
    OutputLine,
    RunBegan,
    RunOver,
    SweepOpened,
    WorkerChanged,
)
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, SweepId, SweepPath
from parallel_hpo.display.text import (
    RunCounts,
    Varied,
    Verbosity,
    advance,
    brief,
    describe,
    duration,
    progress,
)

PATH = SweepPath("local", "digits", SweepId("s1"))
OPENED = SweepOpened(PATH, "http://x", "local", 10, 3, (4, 3, 3), "/logs/s1", "cv_score", "maximize")
BEGAN = RunBegan(Slot(0), RunId("ab12"), 1, {"epochs": 5})
FINISHED = RunOver(Slot(0), RunId("ab12"), 1, Outcome.FINISHED, "", 0.93, 3.21)
CRASHED = RunOver(Slot(2), RunId("ab12"), 1, Outcome.CRASHED, "SIGKILL", None, 75.0, again=True)
STARTING = WorkerChanged(Slot(1), SlotState.STARTING)
BACKOFF = WorkerChanged(Slot(1), SlotState.BACKOFF, "SIGKILL")
FATAL = WorkerChanged(Slot(1), SlotState.FATAL, "died 5 times in 600 s")
MISSED = MissingMetric("NaN", ("cv_score", *(f"m{n}" for n in range(11))))
NAMES = "cv_score, m0, m1, m2, m3, m4, m5, m6, m7, m8 and 2 more"
FINISHED_WITHOUT = "warning: a run finished without a number for the sweep's metric 'cv_score':"
BARE = MissingMetric("nothing", ())
WARNING = Message("no credentials", warning=True)


def said(notice: Notice, verbosity: Verbosity = Verbosity.NORMAL, varied: Varied = None) -> str | None:
    text = describe(notice, advance(RunCounts(), OPENED, 0.0), varied, verbosity)
    return None if text is None else text.plain


@pytest.mark.parametrize(
    ("notice", "words"),
    [
        (
            OPENED,
            "sweep local/digits/s1 (local): 10 runs on 3 workers (shares 4, 3, 3)\nhttp://x\nlogs: /logs/s1",
        ),
        (BEGAN, "w0 run ab12 started  epochs=5"),
        (
            RunBegan(Slot(0), RunId("ab12"), 2, {"epochs": 5}),
            "w0 run ab12 started again (attempt 2)  epochs=5",
        ),
        (FINISHED, "w0 run ab12 finished in 3.2 s  cv_score=0.93"),
        (CRASHED, "w2 run ab12 crashed in 1 min 15 s  SIGKILL; it will be retried"),
        (BACKOFF, "w1 died and will be restarted: SIGKILL"),
        (FATAL, "w1 gave up: died 5 times in 600 s"),
        (Message("hello"), "hello"),
        (WARNING, "warning: no credentials"),
        (
            MISSED,
            f"{FINISHED_WITHOUT} got NaN; it logged {NAMES}; the nearest name is 'm9'",
        ),
        (BARE, f"{FINISHED_WITHOUT} got nothing; it logged nothing at all"),
        (STARTING, None),
        (OutputLine(Slot(0), "x"), None),
    ],
)
def test_a_notice_is_one_line(notice: Notice, words: str | None) -> None:
    assert said(notice) == words


def test_a_verbose_display_shows_the_workers_states_too() -> None:
    assert said(STARTING, Verbosity.VERBOSE) == "w1 starting"


@pytest.mark.parametrize("notice", [OPENED, BEGAN, FINISHED, CRASHED, STARTING, Message("hello")])
def test_a_quiet_display_shows_only_problems(notice: Notice) -> None:
    assert said(notice, Verbosity.QUIET) is None


@pytest.mark.parametrize("notice", [BACKOFF, FATAL, WARNING])
def test_a_quiet_display_shows_warnings(notice: Notice) -> None:
    assert said(notice, Verbosity.QUIET) is not None


def test_the_progress_line_has_counts_best_value_and_remaining_time() -> None:
    counts = advance(RunCounts(), OPENED, 0.0)
    assert progress(counts, 0.0).plain == "0/10 runs · 0 running · 0 failed"
    for notice in (FINISHED, RunOver(Slot(1), RunId("c"), 1, Outcome.FAILED, "exit 3", None, 1.0), BEGAN):
        counts = advance(counts, notice, 10.0)
    assert (
        progress(counts, 10.0).plain == "2/10 runs · 1 running · 1 failed · best cv_score=0.93 · 40.0 s left"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.97, "1 min 0 s"), (125, "2 min 5 s"), (3780, "1 h 3 min")],
)
def test_a_duration_has_a_suitable_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_parameters_have_their_shortest_unique_names() -> None:
    parameters = {"a": {"lr": 0.1, "x": 1}, "b": {"x": 2}, "x": 3}
    assert brief(parameters, None) == "lr=0.1 a.x=1 b.x=2 x=3"


def test_only_the_parameters_that_vary_are_shown() -> None:
    parameters = {"m": {"net": {"epochs": 3, "type": "cnn"}}, "seed": 1}
    assert brief(parameters, frozenset({("m", "net", "epochs")})) == "epochs=3"


def test_an_object_is_shown_by_its_entries() -> None:
    assert (
        brief({"opt": {"name": "adam", "lr": 0.1}, "empty": {}}, frozenset({("opt",)})) == "name=adam lr=0.1"
    )


def test_a_long_value_is_cut() -> None:
    assert len(brief({"x": "y" * 1000}, None)) < 50
