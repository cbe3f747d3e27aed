"""When which worker performed which attempt, by a sweep's ledgers: read beside whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from parallel_hpo.supervisor.control.mailbox import is_supervised
from parallel_hpo.supervisor.records.ledger_reader import AttemptRow, MarkRow, open_reader
from parallel_hpo.supervisor.records.sweep_folders import ledgers_of
from parallel_hpo.words import RunId, Slot


@dataclass(frozen=True, slots=True)
class Performed:
    """What one supervisor's workers did: the sweep's, or those of one of its shares."""

    share: str
    """The share's folder; '' where the sweep has none."""
    attempts: tuple[AttemptRow, ...]
    marks: tuple[MarkRow, ...]
    devices: dict[RunId, str | None]
    """Where each run's last attempt was."""
    assigned: dict[Slot, str | None]
    """The device of each slot in which a worker was ever started: the one that it had last."""
    goes_on: bool
    """A supervisor works now; without one, an attempt that has no end was cut short."""

    @property
    def slots(self) -> list[Slot]:
        """Where workers have been."""
        return sorted({*self.assigned, *(attempt.slot for attempt in self.attempts)})


def performed(folder: Path) -> list[Performed]:
    """Return what was done in a sweep's folder; LedgerError where a ledger can't be read."""
    return [_read(folder, path) for path in ledgers_of(folder.parent, folder.name)]


def _read(folder: Path, path: Path) -> Performed:
    with open_reader(path) as reader:
        return Performed(
            share="" if path.parent == folder else path.parent.name,
            attempts=tuple(reader.attempts()),
            marks=tuple(reader.marks()),
            devices={run.run_id: run.device for run in reader.runs()},
            assigned={worker.slot: worker.device for worker in reader.workers()},
            goes_on=is_supervised(path.parent),
        )
