"""Reads a ledger's runs, slots, machines and facts, for its owner and for other processes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.messages import UNKNOWN, Consumption
from parallel_hpo.core.types import Outcome, Parameters, RunId, Slot
from parallel_hpo.records.ledger_views import known_format


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


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker's slot in the ledger."""

    slot: Slot
    device: str | None
    restarts: int
    machine: str | None = None
    """Its machine; None if the sweep has only one."""


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine in the ledger of a sweep on many machines."""

    name: str
    folder: str
    """Folder of its logs on that machine; '' if unknown."""
    attempts: int
    departure: str
    """How it left, in words; '' while it takes part."""


class LedgerReader:
    """A ledger opened for reading; a context manager."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self._knows_machines = "places" in tables  # earlier versions' ledgers don't
        unknown = [column for table, column in _LATER_TABLES.items() if table not in tables]
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

    def workers(self) -> list[WorkerRow]:
        """Return all slots that have had a process."""
        places = {slot: machine for machine, _, slot in self._places()}
        rows = self._query("SELECT slot, device, restarts FROM workers ORDER BY slot")
        return [WorkerRow(Slot(slot), device, restarts, places.get(slot)) for slot, device, restarts in rows]

    def machines(self) -> list[MachineRow]:
        """Return the machines that have taken part, first joined first; [] for a sweep on one machine."""
        if not self._knows_machines:
            return []
        counted = dict(
            self._query("SELECT machine, COUNT(*) FROM attempts JOIN places USING (slot) GROUP BY machine")
        )
        last = {
            name: MachineRow(name, folder, counted.get(name, 0), departure)
            for name, folder, departure in self._query(
                "SELECT name, folder, departure FROM machines ORDER BY epoch"
            )
        }
        return list(last.values())

    def _places(self) -> Iterator[tuple[Any, ...]]:
        """Yield each slot's machine, its number there, and the slot."""
        return self._query("SELECT machine, number, slot FROM places") if self._knows_machines else iter(())

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
