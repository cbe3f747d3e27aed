"""Read-only views of a sweep's ledgers, for display: attempts, devices, incidents and counts.

Used by commands and by the server's pages, while a session may write the ledgers (`records/ledger.py`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.messages import UNKNOWN, Consumption
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.core.version import __version__

LEDGER: Final = "ledger.db"
LEDGER_FORMAT: Final = 4
"""Version of the ledger's tables, SQLite's `user_version`; 0 for ledgers before it was introduced."""
RESTART: Final = "restart"
QUARANTINE: Final = "quarantine"
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a run; `outcome` is None while it has not ended."""

    run_id: RunId
    attempt: int
    slot: Slot
    started_at: float
    """Seconds since the epoch."""
    outcome: Outcome | None
    reason: str
    duration_s: float | None
    consumption: Consumption = UNKNOWN
    """Devices and energy that it has used."""

    @property
    def ended_at(self) -> float | None:
        """Time of its end; None if it has not ended."""
        return None if self.outcome is None else self.started_at + (self.duration_s or 0.0)


@dataclass(frozen=True, slots=True)
class Incident:
    """A restart of a worker or a quarantine of a device."""

    at: float
    """Seconds since the epoch."""
    kind: str
    """RESTART of the worker in a slot, QUARANTINE of a device."""
    slot: Slot | None
    device: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class PerformedRuns:
    """What the workers of one ledger did: the sweep's, or one of its shares'."""

    share: str
    """The share's folder; '' without shares."""
    path: str
    """Path of the sweep, `entity/project/id`."""
    attempts: tuple[Attempt, ...]
    """In the order of their starts."""
    marks: tuple[Incident, ...]
    devices: dict[RunId, str | None]
    """Device of each run's last attempt."""
    assigned: dict[Slot, str | None]
    """Last device of each slot."""
    places: dict[Slot, tuple[str, int]] = field(default_factory=dict)
    """Machine of each slot and its number there, of a sweep on many machines."""

    @property
    def slots(self) -> list[Slot]:
        """Slots that have had a worker."""
        return sorted({*self.assigned, *(attempt.slot for attempt in self.attempts)})

    def machine_of(self, slot: Slot) -> str:
        """Return a slot's machine, or its share, or ''."""
        return self.places[slot][0] if slot in self.places else self.share

    def name_of(self, slot: Slot) -> str:
        """Return the displayed name of a slot's worker, with its machine or share."""
        number = self.places[slot][1] if slot in self.places else slot
        return f"{self.machine_of(slot)} worker {number}".strip()


class LedgerRun(NamedTuple):
    """Figures of a run's attempts; a tuple, since open pages read them for all runs every 2 seconds."""

    attempts: int
    is_over: bool
    spent_s: float | None
    """Seconds in all attempts that have ended, without the pauses between them; None if unknown."""
    since: float | None
    """Start of the attempt that runs, in seconds since the epoch; None if none does."""


@dataclass(frozen=True, slots=True)
class LedgerCount:
    """Count, runs, slots and consumption of one ledger."""

    path: str
    """Path of the sweep, `entity/project/id`."""
    count: int | None
    """Number of runs asked for; None: no limit."""
    runs: dict[RunId, LedgerRun]
    share: str
    """The share's folder; '' without shares."""
    slots: tuple[Slot, ...]
    """Slots in which a worker has been started."""
    consumption: Consumption = UNKNOWN
    """Consumption of all ended attempts."""


def ledgers_in(folder: Path) -> list[Path]:
    """Return the ledgers in a sweep's folder: its own, or one for each share."""
    return sorted([*folder.glob(LEDGER), *folder.glob(f"share-*/{LEDGER}")])


def performed(folder: Path) -> list[PerformedRuns]:
    """Return what the workers did, for each ledger in a sweep's folder; LedgerError: one can't be read."""
    return _each(folder, _read)


def ledger_counts(folder: Path) -> list[LedgerCount]:
    """Return the counts of each ledger in a sweep's folder; LedgerError: one can't be read."""
    return _each(folder, _count)


def _each(folder: Path, read: Callable[[sqlite3.Connection, str], Found]) -> list[Found]:
    """Read each ledger, with the name of its share."""
    found = []
    for path in ledgers_in(folder):
        share = "" if path.parent == folder else path.parent.name
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
                known_format(db, path)
                found.append(read(db, share))
        except sqlite3.Error as error:
            raise LedgerError(f"{path} can't be read: {error}; is it a ledger?") from None
    return found


def known_format(db: sqlite3.Connection, path: Path) -> int:
    """Return a ledger's format; LedgerError: a newer version wrote it, sqlite3.Error: it is not a ledger."""
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    if found > LEDGER_FORMAT:
        raise LedgerError(
            f"{path} was written by a newer parallel_hpo: its format is {found}, and this version,"
            f" {__version__}, knows those up to {LEDGER_FORMAT}; upgrade parallel_hpo"
        )
    return found


def _read(db: sqlite3.Connection, share: str) -> PerformedRuns:
    return PerformedRuns(
        share=share,
        path=_path(db),
        attempts=tuple(_attempts(db)),
        marks=tuple(_marks(db)),
        devices=dict(db.execute("SELECT run_id, device FROM runs")),
        assigned={Slot(slot): device for slot, device in db.execute("SELECT slot, device FROM workers")},
        places={Slot(slot): (machine, number) for slot, machine, number in _rows_of(db, "places")},
    )


def _count(db: sqlite3.Connection, share: str) -> LedgerCount:
    count = _fact(db, "count")
    return LedgerCount(
        path=_path(db),
        count=count if isinstance(count, int) else None,
        runs=dict(_runs(db)),
        share=share,
        slots=tuple(Slot(slot) for (slot,) in db.execute("SELECT slot FROM workers ORDER BY slot")),
        consumption=_total_consumption(db),
    )


def _runs(db: sqlite3.Connection) -> Iterator[tuple[RunId, LedgerRun]]:
    attempts = dict(db.execute("SELECT run_id, MAX(attempt) FROM attempts GROUP BY run_id"))
    for run_id, in_all_s in db.execute("SELECT run_id, duration_s FROM runs WHERE outcome IS NOT NULL"):
        yield RunId(run_id), LedgerRun(attempts.get(run_id, 1), True, in_all_s, None)
    query = (
        "SELECT run_id, TOTAL(attempts.duration_s), MAX(attempt), attempts.outcome, attempts.started_at"
        " FROM runs JOIN attempts USING (run_id) WHERE runs.outcome IS NULL GROUP BY run_id"
    )
    for run_id, ended_s, last, outcome, started_at in db.execute(query):  # the last attempt's, by MAX
        yield RunId(run_id), LedgerRun(last, False, ended_s, started_at if outcome is None else None)


def _path(db: sqlite3.Connection) -> str:
    path = _fact(db, "path")
    return path if isinstance(path, str) else ""


def _fact(db: sqlite3.Connection, name: str) -> Any:
    found: tuple[str] | None = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if found is None else json.loads(found[0])


def _attempts(db: sqlite3.Connection) -> Iterator[Attempt]:
    columns = "run_id, attempt, slot, started_at, outcome, reason, duration_s"
    used = _consumption(db)
    for run_id, attempt, slot, at, outcome, reason, took_s in db.execute(
        f"SELECT {columns} FROM attempts ORDER BY started_at, run_id"
    ):
        ended = None if outcome is None else Outcome(outcome)
        consumption = used.get((run_id, attempt), UNKNOWN)
        yield Attempt(RunId(run_id), attempt, Slot(slot), at, ended, reason or "", took_s, consumption)


def _total_consumption(db: sqlite3.Connection) -> Consumption:
    if not _has(db, "consumption"):
        return UNKNOWN
    return Consumption(
        *db.execute("SELECT SUM(device_hours), SUM(device_kwh), SUM(cpu_kwh) FROM consumption").fetchone()
    )


def _consumption(db: sqlite3.Connection) -> dict[tuple[str, int], Consumption]:
    rows = _rows_of(db, "consumption")
    return {(run_id, attempt): Consumption(*measured) for run_id, attempt, *measured in rows}


def _marks(db: sqlite3.Connection) -> Iterator[Incident]:
    for at, kind, slot, device, reason in sorted(_rows_of(db, "marks"), key=lambda row: float(row[0])):
        yield Incident(at, kind, None if slot is None else Slot(slot), device, reason)


def _rows_of(db: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """Return a table's rows; ledgers of earlier versions lack some tables."""
    return db.execute(f"SELECT * FROM {table}").fetchall() if _has(db, table) else []


def _has(db: sqlite3.Connection, table: str) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None
