"""The sweeps that there are in a directory, read beside whoever runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from parallel_hpo.chronicle import ledgers_in
from parallel_hpo.errors import LedgerError, UsageError
from parallel_hpo.letters import is_supervised
from parallel_hpo.supervisor.records.ledger_reader import MachineRow, RunRow, WorkerRow, best_of, open_reader
from parallel_hpo.words import Outcome, Slot, sweep_id_of

_ENDING: Final = ("stop_reason", "exit_code")


@dataclass(frozen=True, slots=True)
class KnownSweep:
    """A sweep as its ledgers have it now; one that was performed in shares has a ledger for each."""

    folder: Path
    facts: dict[str, Any]
    """Those of its first ledger (`path`, `url`, `backend`, `metric`, `goal`); its end is that of all."""
    count: int | None
    """Runs asked for, over all its ledgers; None: no limit."""
    workers: tuple[WorkerRow, ...]
    """The slots of each of its ledgers in which a worker has been started."""
    runs: tuple[RunRow, ...]
    """In the order of their first start."""
    supervised: tuple[Path, ...]
    """Folders, its own or its shares', that a supervisor works in now."""
    machines: tuple[MachineRow, ...] = ()
    """Those that have taken part; empty where the sweep has one only."""

    @property
    def sweep_id(self) -> str:
        """Its id, which is the name of its folder."""
        return self.folder.name

    @property
    def project(self) -> str | None:
        """The name of its project; None: its ledger was just being made."""
        return str(self.facts["path"]).split("/")[1] if "path" in self.facts else None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Those in which a worker has been started."""
        return tuple(sorted({worker.slot for worker in self.workers}))

    @property
    def best(self) -> RunRow | None:
        """The finished run with the best value of the metric."""
        return best_of(self.runs, self.facts.get("goal", "minimize"))

    def number(self, outcome: Outcome | None) -> int:
        """Return how many runs ended so; None: are not over."""
        return sum(1 for run in self.runs if run.outcome is outcome)


def known_sweeps(directory: Path, *, unreadable: Callable[[LedgerError], None]) -> Iterator[KnownSweep]:
    """Yield all sweeps in a directory, by their age; `unreadable` is told of the others."""
    for folder in folders_of_sweeps(directory):
        try:
            yield _read(folder)
        except LedgerError as error:
            unreadable(error)


def find_sweep(directory: Path, sweep: str) -> KnownSweep:
    """Return the sweep with that id or path; raises UsageError that names those that there are."""
    folder = directory / sweep_id_of(sweep)
    if ledgers_of(directory, folder.name):
        return _read(folder)
    known = ", ".join(folder.name for folder in folders_of_sweeps(directory)) or "none"
    raise UsageError(
        f"there is no sweep {sweep} in {directory}; there: {known}"
        " (one that was only created is there once somebody runs it)"
    )


def newest_sweep(directory: Path) -> KnownSweep:
    """Return the sweep that was begun or gone on with last; UsageError where there is none."""
    folders = folders_of_sweeps(directory)
    if not folders:
        raise UsageError(f"there is no sweep in {directory}")
    return _read(folders[-1])


def folders_of_sweeps(directory: Path) -> list[Path]:
    """Return the folders of all sweeps in a directory, by the age of what their supervisors wrote last."""
    found = {folder: ledgers for folder in directory.glob("*") if (ledgers := ledgers_in(folder))}
    return sorted(found, key=lambda folder: max(ledger.stat().st_mtime for ledger in found[folder]))


def ledgers_of(directory: Path, name: str) -> list[Path]:
    """Return the ledgers of the sweep of that id, its own and its shares'."""
    return ledgers_in(directory / name)


def supervised_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders, a sweep's own or its shares', that a supervisor works in now."""
    places = (path.parent for path in ledgers_of(folder.parent, folder.name))
    return tuple(place for place in places if is_supervised(place))


def _read(folder: Path) -> KnownSweep:
    ledgers = ledgers_of(folder.parent, folder.name)
    with ExitStack() as stack:
        readers = [stack.enter_context(open_reader(path)) for path in ledgers]
        runs = (run for reader in readers for run in reader.runs())
        counts: list[int | None] = [reader.facts.get("count") for reader in readers]
        return KnownSweep(
            folder=folder,
            facts=_facts([reader.facts for reader in readers]),
            count=None if None in counts else sum(count or 0 for count in counts),
            workers=tuple(worker for reader in readers for worker in reader.workers()),
            runs=tuple(sorted(runs, key=lambda run: run.started_at)),
            supervised=supervised_folders(folder),
            machines=tuple(machine for reader in readers for machine in reader.machines()),
        )


def _facts(of_ledgers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the first ledger's, with the end of a share that has something left to do, if there is one."""
    first = of_ledgers[0]
    left = next((facts for facts in of_ledgers if facts.get("exit_code") != 0), first)
    ending = {name: left[name] for name in _ENDING if name in left}
    return {name: fact for name, fact in first.items() if name not in _ENDING} | ending
