"""Reads ledgers: their runs, attempts, slots, machines, incidents and facts.

Used by the ledger's owner (`records/ledger.py`), and by commands and pages while a session writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.messages import UNKNOWN, Consumption
from parallel_hpo.core.types import Outcome, Parameters, RunId, Slot
from parallel_hpo.core.version import __version__

LEDGER: Final = "ledger.db"
LEDGER_FORMAT: Final = 4
"""Version of the ledger's tables, SQLite's `user_version`; 0 for ledgers before it was introduced."""
RESTART: Final = "restart"
QUARANTINE: Final = "quarantine"
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the ledger; `outcome` is None while it has not ended."""

    run_id: RunId
    parameters: Parameters
    slot: Slot
    device: str | None
    attempts: int
    """Number of its last attempt; earlier ones may have been on other machines."""
    deaths: int
    """Number of attempts ended by their worker's death."""
    outcome: Outcome | None
    reason: str
    value: float | None
    duration_s: float | None
    resumable: bool
    started_at: float = 0.0
    """Start of its first attempt, in seconds since the epoch."""
    machine: str | None = None
    """Machine of its last attempt; None if the sweep has only one."""
    seed: int | None = None
    """The run's seed; None: the sweep has none."""
    consumption: Consumption = UNKNOWN
    """Consumption of its ended attempts."""
    last_s: float | None = None
    """Duration of its last attempt in seconds; None while it has not ended."""
    spent_s: float = 0.0
    """Total duration of its ended attempts, in seconds."""


def best_of(rows: Iterable[RunRow], goal: str) -> RunRow | None:
    """Return the finished run with the best value; all values are finite, since SQLite has no NaN."""
    known = [(row.value, row) for row in rows if row.outcome is Outcome.FINISHED and row.value is not None]
    choose = max if goal == "maximize" else min
    return choose(known, key=lambda pair: pair[0])[1] if known else None


_COLUMNS: Final = tuple(field.name for field in fields(RunRow))


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
    incidents: tuple[Incident, ...]
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


@dataclass(frozen=True, slots=True)
class WorkerSummary:
    """One slot: the number of runs whose last attempt was in it, and of its worker's restarts."""

    slot: Slot
    device: str | None
    runs: int
    restarts: int
    machine: str | None = None
    """Its machine; None if the sweep has only one."""


@dataclass(frozen=True, slots=True)
class MachineSummary:
    """One of a sweep's machines: the number of runs whose last attempt was there, and of its attempts."""

    name: str
    runs: int
    attempts: int
    departure: str
    """How it left, in words; '' while it is in the sweep."""
    folder: str = ""
    """Folder of its logs on that machine; '' if unknown."""


_FOUND: Final = {
    "attempts": "(SELECT COALESCE(MAX(attempt), 0) FROM attempts WHERE attempts.run_id = runs.run_id)",
    "deaths": "(SELECT COUNT(*) FROM attempts WHERE attempts.run_id = runs.run_id AND outcome = 'crashed')",
    "last_s": "(SELECT duration_s FROM attempts WHERE attempts.run_id = runs.run_id"
    " ORDER BY attempt DESC LIMIT 1)",
    "spent_s": "(SELECT TOTAL(duration_s) FROM attempts WHERE attempts.run_id = runs.run_id)",
    "machine": "(SELECT machine FROM places WHERE places.slot = runs.slot)",
    "seed": "(SELECT seed FROM seeds WHERE seeds.run_id = runs.run_id)",
    "consumption": "(SELECT json_array(SUM(device_hours), SUM(device_kwh), SUM(cpu_kwh))"
    " FROM consumption WHERE consumption.run_id = runs.run_id)",
}
_LATER_TABLES: Final = {"places": "machine", "seeds": "seed", "consumption": "consumption"}
"""Tables that ledgers of earlier versions lack, and the columns that need them."""
_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "parameters": json.loads,
    "outcome": lambda text: None if text is None else Outcome(text),
    "resumable": bool,
    "consumption": lambda text: UNKNOWN if text is None else Consumption(*json.loads(text)),
}


def _run_row(values: Sequence[Any]) -> RunRow:
    """Return the RunRow with these column values."""
    named = dict(zip(_COLUMNS, values, strict=True))
    return RunRow(**named | {name: read(named[name]) for name, read in _READ.items()})


class LedgerReader:
    """A ledger opened for reading; a context manager."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        self._tables = {name for (name,) in db.execute(query)}
        unknown = [column for table, column in _LATER_TABLES.items() if table not in self._tables]
        found = _FOUND | dict.fromkeys(unknown, "NULL")
        self._columns = ", ".join(found.get(column, column) for column in _COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._db.close()

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the sweep as a whole."""
        return {name: json.loads(value) for name, value in self._query("SELECT name, value FROM facts")}

    def runs(self) -> Iterator[RunRow]:
        """Return all runs in the order of their first start."""
        return self._rows("ORDER BY number")

    def run(self, run_id: RunId) -> RunRow | None:
        """Return the run of this id, or None if it was never started."""
        return next(self._rows("WHERE run_id = ?", run_id), None)

    def last_event(self) -> tuple[int, int]:
        """Return the number of the last event in the log, and the last epoch; 0 if there is none."""
        query = "SELECT COALESCE(MAX(number), 0), COALESCE(MAX(epoch), 0) FROM events"
        number, epoch = next(self._query(query))
        return number, epoch

    def begun_with(self, parameters: Parameters) -> int:
        """Return the number of runs started with these parameters."""
        query = self._query("SELECT COUNT(*) FROM runs WHERE parameters = ?", json.dumps(parameters))
        return int(next(query)[0])

    def last_starts(self) -> dict[RunId, float]:
        """Return the start of each run's last attempt, in seconds since the epoch."""
        return dict(self._db.execute("SELECT run_id, MAX(started_at) FROM attempts GROUP BY run_id"))

    def _rows(self, which: str, *values: str) -> Iterator[RunRow]:
        return map(_run_row, self._query(f"SELECT {self._columns} FROM runs {which}", *values))

    def workers(self) -> list[WorkerSummary]:
        """Return all slots that have had a process."""
        places = self.places()
        runs = "SELECT COUNT(*) FROM runs WHERE runs.slot = workers.slot"
        rows = self._query(f"SELECT slot, device, ({runs}), restarts FROM workers ORDER BY slot")
        return [
            WorkerSummary(slot, device, count, restarts, places[slot][0] if slot in places else None)
            for slot, device, count, restarts in rows
        ]

    def machines(self) -> list[MachineSummary]:
        """Return the machines that have taken part, first joined first; [] for a sweep on one machine."""
        counted = "machine, COUNT(*) FROM {} JOIN places USING (slot) GROUP BY machine"
        runs, attempts = (
            dict(self._rows_of("places", counted.format(table))) for table in ("runs", "attempts")
        )
        last = {
            name: MachineSummary(name, runs.get(name, 0), attempts.get(name, 0), departure, folder)
            for name, folder, departure in self._rows_of(
                "machines", "name, folder, departure FROM machines ORDER BY epoch"
            )
        }
        return list(last.values())

    def places(self) -> dict[Slot, tuple[str, int]]:
        """Return each slot's machine and its number there; {} for a sweep on one machine."""
        rows = self._rows_of("places", "slot, machine, number FROM places ORDER BY slot")
        return {slot: (machine, number) for slot, machine, number in rows}

    def performed(self, share: str) -> PerformedRuns:
        """Return what the workers did; `share` is the name of the ledger's share."""
        return PerformedRuns(
            share=share,
            path=self._sweep,
            attempts=tuple(self._attempts()),
            incidents=tuple(Incident(*row) for row in self._rows_of("marks", "* FROM marks ORDER BY at")),
            devices=dict(self._query("SELECT run_id, device FROM runs")),
            assigned=dict(self._query("SELECT slot, device FROM workers")),
            places=self.places(),
        )

    def counts(self, share: str) -> LedgerCount:
        """Return the counts; `share` is the name of the ledger's share."""
        count = self.facts.get("count")
        used = self._rows_of(
            "consumption", "SUM(device_hours), SUM(device_kwh), SUM(cpu_kwh) FROM consumption"
        )
        return LedgerCount(
            path=self._sweep,
            count=count if isinstance(count, int) else None,
            runs=dict(self._run_counts()),
            share=share,
            slots=tuple(slot for (slot,) in self._query("SELECT slot FROM workers ORDER BY slot")),
            consumption=next((Consumption(*row) for row in used), UNKNOWN),
        )

    @property
    def _sweep(self) -> str:
        path = self.facts.get("path")
        return path if isinstance(path, str) else ""

    def _attempts(self) -> Iterator[Attempt]:
        used = {
            (run_id, attempt): Consumption(*measured)
            for run_id, attempt, *measured in self._rows_of("consumption", "* FROM consumption")
        }
        columns = "run_id, attempt, slot, started_at, outcome, reason, duration_s"
        for run_id, attempt, slot, at, outcome, reason, took_s in self._query(
            f"SELECT {columns} FROM attempts ORDER BY started_at, run_id"
        ):
            ended = None if outcome is None else Outcome(outcome)
            consumption = used.get((run_id, attempt), UNKNOWN)
            yield Attempt(run_id, attempt, slot, at, ended, reason or "", took_s, consumption)

    def _run_counts(self) -> Iterator[tuple[RunId, LedgerRun]]:
        attempts = dict(self._query("SELECT run_id, MAX(attempt) FROM attempts GROUP BY run_id"))
        for run_id, in_all_s in self._query("SELECT run_id, duration_s FROM runs WHERE outcome IS NOT NULL"):
            yield run_id, LedgerRun(attempts.get(run_id, 1), True, in_all_s, None)
        query = (
            "SELECT run_id, TOTAL(attempts.duration_s), MAX(attempt), attempts.outcome, attempts.started_at"
            " FROM runs JOIN attempts USING (run_id) WHERE runs.outcome IS NULL GROUP BY run_id"
        )
        for run_id, ended_s, last, outcome, started_at in self._query(query):  # the last attempt's, by MAX
            yield run_id, LedgerRun(last, False, ended_s, started_at if outcome is None else None)

    def _rows_of(self, table: str, select: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query; none if the ledger is of an earlier version, without the table."""
        return self._query(f"SELECT {select}") if table in self._tables else iter(())

    def _query(self, sql: str, *values: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"the ledger can't be read: {error}") from None


def is_emptied(path: Path) -> bool:
    """Return whether a ledger has lost its content: it is empty, but there are workers' folders."""
    try:
        return path.stat().st_size == 0 and any(path.parent.glob("worker-*"))
    except FileNotFoundError:
        return False


def open_reader(path: Path) -> LedgerReader:
    """Open the ledger at `path` for reading; LedgerError if it is not one, or a newer version's."""
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)  # quotes ?, # and %
        known_format(db, path)
        db.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        raise LedgerError(f"{path} can't be read: {error}; is it a ledger?") from None
    return LedgerReader(db)


def known_format(db: sqlite3.Connection, path: Path) -> int:
    """Return a ledger's format; LedgerError: a newer version wrote it, sqlite3.Error: it is not a ledger."""
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    if found > LEDGER_FORMAT:
        raise LedgerError(
            f"{path} was written by a newer parallel_hpo: its format is {found}, and this version,"
            f" {__version__}, knows those up to {LEDGER_FORMAT}; upgrade parallel_hpo"
        )
    return found


def ledgers_in(folder: Path) -> list[Path]:
    """Return the ledgers in a sweep's folder: its own, or one for each share."""
    return sorted([*folder.glob(LEDGER), *folder.glob(f"share-*/{LEDGER}")])


def performed(folder: Path) -> list[PerformedRuns]:
    """Return what the workers did, for each ledger in a sweep's folder; LedgerError: one can't be read."""
    return _each(folder, LedgerReader.performed)


def ledger_counts(folder: Path) -> list[LedgerCount]:
    """Return the counts of each ledger in a sweep's folder; LedgerError: one can't be read."""
    return _each(folder, LedgerReader.counts)


def _each(folder: Path, read: Callable[[LedgerReader, str], Found]) -> list[Found]:
    """Read each ledger, with the name of its share."""
    found = []
    for path in ledgers_in(folder):
        with open_reader(path) as reader:
            found.append(read(reader, "" if path.parent == folder else path.parent.name))
    return found
