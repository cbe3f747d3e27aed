from __future__ import annotations

from dataclasses import replace

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.analysis.table import BestRun, RunSummary
from parallel_hpo.core.notices import SweepOpened
from parallel_hpo.core.types import Outcome, RunId, Slot, SweepId, SweepPath
from parallel_hpo.display.text import RunCounts, advance, describe_result
from parallel_hpo.records.reader import MachineSummary
from tests.results import RESULT

PATH = SweepPath("local", "digits", SweepId("s1"))
TALLY = advance(RunCounts(), SweepOpened(PATH, "", "local", 3, 1, (), "/logs/s1", "loss", "minimize"), 0.0)
THREE_RUNS = replace(
    RESULT,
    count=3,
    attempted=3,
    finished=3,
    best=BestRun(run_id=RunId("r1"), value=0.25, parameters={"lr": 0.1, "fixed": 1}),
    duration_s=12.3,
)


def run(outcome: Outcome, reason: str) -> RunSummary:
    return RunSummary(
        run_id=RunId("r"),
        parameters={},
        attempts=1,
        outcome=outcome,
        reason=reason,
        duration_s=1.0,
        slot=Slot(0),
        device="cpu",
    )


def lines(result: SweepResult) -> list[str]:
    return [text.plain for text in describe_result(result, TALLY, frozenset({("lr",)}))]


def test_the_end_shows_counts_best_run_reason_and_folder() -> None:
    assert lines(THREE_RUNS) == [
        "3 runs in 12.3 s: 3 finished",
        "best: run r1  loss=0.25  lr=0.1",
        "ended: count reached",
        "summary and logs: /logs/s1",
    ]


def test_the_end_shows_the_runs_of_each_machine() -> None:
    machines = (MachineSummary("gpu1", 2, 3, "left"), MachineSummary("gpu2", 1, 1, ""))
    assert "runs by machine: gpu1 2, gpu2 1" in lines(replace(RESULT, machines=machines))


def test_failures_are_grouped_by_their_reason() -> None:
    runs = (
        run(Outcome.FINISHED, ""),
        *[run(Outcome.FAILED, "ValueError: x")] * 3,
        run(Outcome.CRASHED, "SIGKILL"),
    )
    shown = lines(replace(THREE_RUNS, attempted=5, finished=1, failed=3, crashed=1, runs=runs))
    assert shown[0] == "5 runs in 12.3 s: 1 finished, 3 failed, 1 crashed"
    assert shown[1:3] == ["  3 × failed: ValueError: x", "  1 × crashed: SIGKILL"]


def test_many_different_failures_are_not_all_shown() -> None:
    runs = tuple(run(Outcome.FAILED, f"exit {code}") for code in range(1, 9))
    assert "  and 3 more, in the summary" in lines(replace(THREE_RUNS, failed=8, runs=runs))


def test_the_end_says_that_there_is_no_best_run() -> None:
    assert "no run finished with a value to compare" in lines(replace(THREE_RUNS, best=None))


def test_retried_and_lost_runs_are_named() -> None:
    first = lines(replace(THREE_RUNS, retried=2, lost=1))[0]
    assert "; 2 attempts retried" in first
    assert "; 1 lost, which is a bug" in first
