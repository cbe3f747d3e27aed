"""The end of a sweep, once nothing of it runs: what became of it goes to the disk and to its caller.

Runs that its server counts as running and that nobody started are found then, and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parallel_hpo.backend.base import Backend, OpenedSweep
from parallel_hpo.errors import ExitCode, NoRoomError, ParallelHPOError
from parallel_hpo.notices import Message, SweepOver
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.supervisor.control.patience import Patience
from parallel_hpo.supervisor.control.signals import Control
from parallel_hpo.supervisor.records.ledger import Ledger
from parallel_hpo.supervisor.records.ledger_reader import RunRow
from parallel_hpo.supervisor.records.summary import Closing, SweepResult, summarise, write_summary
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.words import Outcome, StopKind, SweepPath


@dataclass(frozen=True, slots=True)
class EndedSweep:
    """The sweep that has ended, and what was known of it when it began."""

    opened: OpenedSweep
    backend: str
    folder: Path
    count: int | None
    phantoms: tuple[str, ...]
    is_part: bool = False
    """Whether other machines have runs of it that are not in this ledger."""


def conclude(ledger: Ledger, ending: Ending, setting: Setting, ended: EndedSweep) -> SweepResult:
    """Return what became of the sweep, which is in its ledger and its `summary.json` by then."""
    runs = [_settled(row, ending) for row in ledger.runs()]
    exit_code = exit_code_of(ending, runs, metric=None if ended.is_part else ended.opened.metric)
    try:
        # Waits for the disk: the ends before it survive a power cut now, too.
        ledger.record_facts({"stop_reason": ending.reason, "exit_code": exit_code})
    except NoRoomError as error:
        setting.observer(Message(f"{error}: how the sweep ended is not in it", warning=True))
    closing = Closing(
        sweep_id=ended.opened.path.sweep_id,
        sweep_url=ended.opened.url,
        backend=ended.backend,
        count=ended.count,
        stop_reason=ending.reason,
        exit_code=exit_code,
        duration_s=setting.clock() - setting.began,
        phantoms=ended.phantoms,
        metric=ended.opened.metric,
        goal=ended.opened.goal,
        folder=str(ended.folder),
    )
    result = summarise(runs, ledger.workers(), closing, machines=ledger.machines())
    try:
        write_summary(result, ended.folder / "summary.json")
    except OSError as error:  # the ledger has it all: `status` and `--resume` read that
        setting.observer(Message(f"the summary could not be written: {error}", warning=True))
    setting.observer(SweepOver(result.exit_code))
    return result


def exit_code_of(ending: Ending, runs: Sequence[RunRow], *, metric: str | None) -> int:
    """Return a sweep's exit code, which says also that a complete one has no value of its metric."""
    if ending.exit_code != ExitCode.COMPLETE or metric is None or not runs:
        return ending.exit_code
    has_value = any(run.outcome is Outcome.FINISHED and run.value is not None for run in runs)
    return ExitCode.COMPLETE if has_value else ExitCode.NO_RUN_FINISHED


def is_to_be_finished(ending: Ending, ledger: Ledger) -> bool:
    """Whether the sweep is ours and has had all its runs; one that was joined is left as it is."""
    done = ending.stop is None and ending.exit_code != ExitCode.FAILURE_POLICY
    return done and bool(ledger.facts["created"])


def _settled(row: RunRow, ending: Ending) -> RunRow:
    """Return a run as a stop leaves it: one whose end could not be written is what --resume runs again."""
    if row.outcome is not None or ending.stop is None:
        return row
    return replace(row, outcome=Outcome.STOPPED, reason=f"{ending.reason}; its end could not be recorded")


def cut_short(control: Control, stop: StopKind) -> Ending:
    """Return the ending by the stop that left no more time."""
    asked = control.take()[-1]
    return Ending(asked.reason, asked.exit_code, stop)


def find_phantoms(
    backend: Backend, path: SweepPath, ledger: Ledger, ending: Ending, setting: Setting, patience: Patience
) -> tuple[str, ...]:
    """Return, and name, what the server counts as running in a sweep of ours and nobody started.

    Raises:
        StoppedError: a stop left no time to ask.
    """
    if ending.stop is StopKind.KILL or not ledger.facts["created"] or setting.share:
        return ()
    known = {row.run_id for row in ledger.runs()}
    try:
        found = tuple(patience.call(lambda: backend.phantoms(path, known)))
    except ParallelHPOError as error:
        words = f"whether the server lists runs that nobody started could not be asked: {error}"
        setting.observer(Message(words, warning=True))
        return ()
    if found:
        words = f"the server lists runs of the sweep that no worker started: {', '.join(found)}"
        setting.observer(Message(words, warning=True))
    return found
