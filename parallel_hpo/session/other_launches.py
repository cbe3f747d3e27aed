"""Runs that other launches on the sweep have and this one waits for, and runs that a killed launch left.

A killed launch leaves the run that its worker was issued but had not started. No process would start it, and
silence proves nothing, as a `main` may run for any time. But all launches on a server of this machine have
their ledgers in one folder: whether a launch is dead is known there for certain, and so are the runs that it
has begun, which stay its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parallel_hpo.client.base import Backend, UnstartedRun
from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.folders import is_supervised
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import RunId, SweepPath
from parallel_hpo.processes.reaper import is_dead
from parallel_hpo.records.ledger_views import ledgers_in
from parallel_hpo.records.reader import open_reader


@dataclass(frozen=True, slots=True)
class OtherLaunch:
    """Another launch on the sweep."""

    name: str
    """Its name for the user, such as share 1/2."""
    mark: str
    alive: bool
    begun: frozenset[RunId] = frozenset()
    """Runs that it has started; it runs them again if they were interrupted."""


class OtherLaunches:
    """The other launches on a sweep that this one waits for."""

    def __init__(self, backend: Backend, path: SweepPath, *, directory: Path, mark: str) -> None:
        """`directory` is that of all sweeps, `mark` our own owner id."""
        self._backend = backend
        self._path = path
        self._directory = directory
        self._mark = mark
        self._announced: set[RunId] = set()

    def look(self) -> Iterator[Message]:
        """Return dead launches' runs to the server, and yield messages about awaited runs."""
        for awaited in self._backend.unstarted_runs(self._path):
            if not _is_of(awaited, self._mark):
                yield from self._look_at(awaited)

    def _look_at(self, awaited: UnstartedRun) -> Iterator[Message]:
        sibling = self._find(awaited)
        if sibling is not None and not sibling.alive:
            self._backend.requeue_runs(self._path, sibling.mark, sorted(sibling.begun))
            yield Message(_what_was_left(awaited.run_id, sibling), warning=True)
        elif awaited.run_id not in self._announced:
            self._announced.add(awaited.run_id)
            yield Message(_what_is_awaited(awaited, sibling))

    def _find(self, awaited: UnstartedRun) -> OtherLaunch | None:
        """Return the launch whose worker has the run; None: an agent of another program has it."""
        if not awaited.label:
            return None
        all_read = True
        for ledger in ledgers_in(self._directory / self._path.sweep_id):
            alive = is_supervised(ledger.parent)  # asked first: a dead launch's ledger is then final
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


def _is_of(awaited: UnstartedRun, mark: str) -> bool:
    """Return whether a worker of the session with this owner id has the run."""
    return awaited.label.startswith(f"{mark}_")


def _without_ledger(awaited: UnstartedRun, *, all_read: bool) -> OtherLaunch:
    """Return a launch without a folder: its owner id tells whether it is dead, and its runs are nobody's.

    If a ledger can't be read, it may be this launch's, with runs that stay its own.
    """
    mark = awaited.label.rpartition("_")[0].rpartition("_")[0]
    return OtherLaunch("a launch whose ledger can't be read", mark, not (all_read and is_dead(mark)))


def _name_of(folder: Path) -> str:
    """Return the user's name of the launch in a folder: `share-1-of-2` is share 1/2."""
    kind, _, numbers = folder.name.partition("-")
    return f"share {numbers.replace('-of-', '/')}" if kind == "share" else f"the launch in {folder}"


def _what_was_left(run_id: RunId, sibling: OtherLaunch) -> str:
    if run_id in sibling.begun:
        return (
            f"{sibling.name} was killed, so its run {run_id} is not awaited any more: the next launch of"
            " that share continues it"
        )
    return f"{sibling.name} was killed before it started run {run_id}, which is requeued"


def _what_is_awaited(awaited: UnstartedRun, sibling: OtherLaunch | None) -> str:
    words = f"no more runs, except run {awaited.run_id}: waiting for"
    if sibling is not None:
        return f"{words} {sibling.name}, which has it and has not started it"
    return f"{words} an agent on {awaited.host}, which has it; it is requeued once that agent is silent"
