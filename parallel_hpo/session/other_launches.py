"""What the sibling shares of a sweep have that this one waits for, and what a killed one left.

A share that was killed leaves the run that its worker was issued and had not started. Nobody would
ever start it, nor know that: a worker may be silent for as long as its `main` likes. But a sibling
on the same server is on the same machine, with its ledger in the same folder: whether its supervisor
is dead is known for certain there, and so is what it had begun, which stays its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parallel_hpo.client.base import AwaitedRun, Backend
from parallel_hpo.core.control_pipe import is_supervised
from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import RunId, SweepPath
from parallel_hpo.processes.reaper import is_dead
from parallel_hpo.records.folders import ledgers_of
from parallel_hpo.records.reader import open_reader


@dataclass(frozen=True, slots=True)
class OtherLaunch:
    """Another launch on the sweep."""

    name: str
    """What a user calls it: share 1/2."""
    mark: str
    alive: bool
    begun: frozenset[RunId] = frozenset()
    """Runs that it has entered, and enters again where they were cut short."""


class OtherLaunches:
    """The other launches on a sweep, as far as this one waits for them."""

    def __init__(self, backend: Backend, path: SweepPath, *, directory: Path, mark: str) -> None:
        """`directory` is that of all sweeps, `mark` our own supervisor's."""
        self._backend = backend
        self._path = path
        self._directory = directory
        self._mark = mark
        self._told: set[RunId] = set()

    def look(self) -> Iterator[Message]:
        """Have what dead siblings left given out, and yield what is to be said of what is waited for."""
        for awaited in self._backend.awaited(self._path):
            if not _is_of(awaited, self._mark):
                yield from self._look_at(awaited)

    def _look_at(self, awaited: AwaitedRun) -> Iterator[Message]:
        sibling = self._find(awaited)
        if sibling is not None and not sibling.alive:
            self._backend.give_back(self._path, sibling.mark, sorted(sibling.begun))
            yield Message(_what_was_left(awaited.run_id, sibling), warning=True)
        elif awaited.run_id not in self._told:
            self._told.add(awaited.run_id)
            yield Message(_what_is_awaited(awaited, sibling))

    def _find(self, awaited: AwaitedRun) -> OtherLaunch | None:
        """Return the launch whose worker has the run; None: it is a stranger's agent that has it."""
        if not awaited.label:
            return None
        all_read = True
        for ledger in ledgers_of(self._directory, self._path.sweep_id):
            alive = is_supervised(ledger.parent)  # asked first: what a dead one's ledger says then is final
            try:
                with open_reader(ledger) as reader:
                    marks = [mark for mark in reader.facts.get("marks", []) if _is_of(awaited, mark)]
                    begun = frozenset(row.run_id for row in reader.runs())
            except LedgerError:
                all_read = False
                continue
            if marks:
                return OtherLaunch(_name_of(ledger.parent), marks[0], alive, begun)
        return _without_ledger(awaited, all_read=all_read)


def _is_of(awaited: AwaitedRun, mark: str) -> bool:
    """Whether it is a worker of the supervisor with this mark that has the run."""
    return awaited.label.startswith(f"{mark}_")


def _without_ledger(awaited: AwaitedRun, *, all_read: bool) -> OtherLaunch:
    """Return a launch whose folder was removed: its mark says whether it is dead, and nobody goes on with it.

    Where a ledger can't be read it may be that one's, with what stays its own.
    """
    mark = awaited.label.rpartition("_")[0].rpartition("_")[0]
    return OtherLaunch("a launch whose ledger isn't to be read", mark, not (all_read and is_dead(mark)))


def _name_of(folder: Path) -> str:
    """Return what a user calls the launch in a folder: `share-1-of-2` is share 1/2."""
    kind, _, numbers = folder.name.partition("-")
    return f"share {numbers.replace('-of-', '/')}" if kind == "share" else f"the launch in {folder}"


def _what_was_left(run_id: RunId, sibling: OtherLaunch) -> str:
    if run_id in sibling.begun:
        return (
            f"{sibling.name} was killed, and its run {run_id} is not waited for any more: the next launch of"
            " that share goes on with it"
        )
    return f"{sibling.name} was killed before it had started run {run_id}, which is given out again now"


def _what_is_awaited(awaited: AwaitedRun, sibling: OtherLaunch | None) -> str:
    words = f"there are no more runs, but for run {awaited.run_id}: waiting for"
    if sibling is not None:
        return f"{words} {sibling.name}, which was given it and has not started it"
    return (
        f"{words} an agent on {awaited.host}, which was given it; once that is silent, it is given out again"
    )
