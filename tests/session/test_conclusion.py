"""The exit code of a sweep that has ended."""

from __future__ import annotations

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.sweep import exit_code_of

COMPLETE = SweepEnd("all 2 runs performed", ExitCode.COMPLETE)


def row(value: float | None, outcome: Outcome = Outcome.FINISHED) -> RunRow:
    return RunRow(RunId("r"), {}, Slot(0), None, 1, 0, outcome, "", value, None, resumable=False)


def test_a_complete_sweep_without_any_metric_value_exits_with_no_run_finished() -> None:
    assert exit_code_of(COMPLETE, [row(None), row(None)], metric="loss") == ExitCode.NO_RUN_FINISHED
    assert exit_code_of(COMPLETE, [row(None), row(0.5)], metric="loss") == ExitCode.COMPLETE


def test_the_value_of_an_unfinished_run_does_not_count() -> None:
    stopped = [row(0.5, Outcome.STOPPED), row(None)]
    assert exit_code_of(COMPLETE, stopped, metric="loss") == ExitCode.NO_RUN_FINISHED


def test_a_sweep_without_metric_or_runs_is_complete_and_other_endings_keep_their_code() -> None:
    assert exit_code_of(COMPLETE, [row(None)], metric=None) == ExitCode.COMPLETE
    assert exit_code_of(COMPLETE, [], metric="loss") == ExitCode.COMPLETE
    assert exit_code_of(SweepEnd("SIGTERM", 143), [row(None)], metric="loss") == 143
