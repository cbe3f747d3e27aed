"""The ledger: one SQLite file per sweep with the log of its events, and tables made from them. SQL only.

    count/rules ──▶ events ──▶ append: the log ▸ runs, attempts, workers, machines

The log of a sweep on many machines is a copy of its pool's. A start is on the disk before `main` is entered
(WAL, synchronous=FULL). An end survives a process's death at once, and a power cut after the next start;
before that, the run would be run again under its own id. A lock file beside the ledger keeps a second session
out.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Final, Self

from parallel_hpo.core.errors import LedgerError, NoRoomError
from parallel_hpo.core.pool_messages import PoolEvent, machine_folder
from parallel_hpo.core.types import Slot
from parallel_hpo.records.reader import LEDGER_FORMAT, LedgerReader, is_emptied, known_format

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, epoch INTEGER, kind TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, parameters TEXT NOT NULL,
    started_at REAL NOT NULL, slot INTEGER NOT NULL, device TEXT,
    outcome TEXT, reason TEXT NOT NULL DEFAULT '', value REAL,
    duration_s REAL, resumable INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS attempts (
    run_id TEXT NOT NULL REFERENCES runs (run_id), attempt INTEGER NOT NULL, slot INTEGER NOT NULL,
    started_at REAL NOT NULL, outcome TEXT, reason TEXT, duration_s REAL, PRIMARY KEY (run_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumption (
    run_id TEXT NOT NULL, attempt INTEGER NOT NULL, device_hours REAL, device_kwh REAL, cpu_kwh REAL,
    PRIMARY KEY (run_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS workers (
    slot INTEGER PRIMARY KEY, device TEXT, restarts INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS marks (
    at REAL NOT NULL, kind TEXT NOT NULL, slot INTEGER, device TEXT, reason TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS machines (
    epoch INTEGER PRIMARY KEY, name TEXT NOT NULL, folder TEXT NOT NULL, departure TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE IF NOT EXISTS places (
    slot INTEGER PRIMARY KEY, machine TEXT NOT NULL, number INTEGER NOT NULL, UNIQUE (machine, number)
) STRICT;
CREATE TABLE IF NOT EXISTS seeds (run_id TEXT PRIMARY KEY, seed INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
"""Tables of LEDGER_FORMAT; raise that when you change them."""

PASSING: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY)
"""Primary codes of errors that may be temporary."""
DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Ledger(LedgerReader):
    """An open ledger, owned by this process until it is closed.

    Raises:
        LedgerError: another session owns it, a newer version wrote it, or the file can't be opened.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the ledger at `path`; None: in memory, for a machine whose pool has the log."""
        self._path = path or Path()
        self._lock: int | None = None
        self._file: os.stat_result | None = None
        self._names: dict[int | None, str] = {}
        """Names of machines by epoch."""
        self._slots: dict[tuple[str, int], Slot] = {}
        """Slots by machine and number there."""
        if path is None:
            super().__init__(_prepare(sqlite3.connect(":memory:"), Path()))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_emptied(path):
            raise LedgerError(
                f"{path} is damaged: it is empty, though the sweep has been run; restore a copy of it,"
                " or remove the sweep's folder to start a new count"
            )
        self._lock = _own(path.with_suffix(".lock"))
        try:
            path.touch(mode=0o600)  # before SQLite creates it, so that -wal and -shm get the same mode
            super().__init__(_prepare(sqlite3.connect(path), path))
            self._file = path.stat()
        except LedgerError:
            os.close(self._lock)
            raise
        except sqlite3.Error as error:
            os.close(self._lock)
            raise LedgerError(f"{path}: {error}: is it a ledger, and is there room on the disk?") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, where)
        if self._lock is not None:
            os.close(self._lock)

    def record_facts(self, facts: Mapping[str, Any]) -> None:
        """Record facts of the sweep, replacing earlier ones of the same name."""
        with self._written():
            rows = [(name, json.dumps(value)) for name, value in facts.items()]
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def append(self, events: Sequence[PoolEvent], *, durable: bool) -> None:
        """Append events to the log and apply them to the other tables, in one transaction.

        Args:
            durable: the events, and all before them, survive a power cut once this returns.
        """
        try:
            with self._written("FULL" if durable else "NORMAL"):
                for event in events:
                    values = (event.number, event.at, event.epoch, event.kind, json.dumps(event.body))
                    self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", values)
                    self._apply(event)
        except BaseException:
            self._names.clear()  # the transaction was rolled back
            self._slots.clear()
            raise

    def record_restart(self, slot: Slot) -> None:
        """Record that another machine has replaced a worker's process; no event of the pool reports it."""
        with self._written("NORMAL"):
            self._replace_worker(slot, None, time.time())

    # --- tables from events ------------------------------------------------------------

    def _apply(self, event: PoolEvent) -> None:
        body = event.body
        match event.kind:
            case "joined":
                self._names[event.epoch] = body["name"]
                if body["name"]:
                    joined = (event.epoch, body["name"], self._folder_of(event))
                    self._db.execute("INSERT INTO machines (epoch, name, folder) VALUES (?, ?, ?)", joined)
            case "left" if body["name"]:
                left = (body.get("reason") or "left", event.epoch)
                self._db.execute("UPDATE machines SET departure = ? WHERE epoch = ?", left)
            case "spawned" if body["again"]:
                self._replace_worker(Slot(body["slot"]), body["device"], event.at)
            case "spawned":
                self._assign(Slot(body["slot"]), body["device"])
            case "quarantined":
                self._add_incident(event.at, "quarantine", None, body["device"], body["reason"])
            case "started":
                self._apply_start(event)
            case "attempt_ended":
                self._end_attempt(body["run_id"], body["attempt"], body, body["duration_s"])
            case "ended" | "handed_on":
                self._apply_end(body, is_requeued=event.kind == "handed_on")

    def _folder_of(self, event: PoolEvent) -> str:
        """Return the folder of a machine's part of the sweep, on that machine."""
        body = event.body
        if not body.get("directory"):
            return ""
        part = machine_folder(body["name"], event.epoch or 0)
        return str(PurePosixPath(body["directory"], self._path.parent.name, part))

    def _apply_start(self, event: PoolEvent) -> None:
        run, device = event.body["run"], event.body["device"]
        slot = self._slot(event.epoch, event.body["slot"])
        self._assign(slot, device)
        self._db.execute(
            "INSERT INTO runs (run_id, parameters, started_at, slot, device) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (run_id) DO UPDATE SET slot = excluded.slot, device = excluded.device,"
            " outcome = NULL, reason = '', resumable = 0",
            (run["run_id"], json.dumps(run["parameters"]), event.at, slot, device),
        )
        self._db.execute(
            "INSERT INTO attempts (run_id, attempt, slot, started_at) VALUES (?, ?, ?, ?)",
            (run["run_id"], run["attempt"], slot, event.at),
        )
        if run["seed"] is not None:
            self._db.execute("INSERT OR IGNORE INTO seeds VALUES (?, ?)", (run["run_id"], run["seed"]))

    def _apply_end(self, end: Mapping[str, Any], *, is_requeued: bool) -> None:
        """End a run; one that is requeued counts as resumable until it starts again.

        The duration of a run is that of all its attempts; the event of a requeued one has only the last's.
        """
        run_id, attempt, duration_s = end["run_id"], end["attempt"], end["duration_s"]
        if attempt is not None:
            earlier_s = 0.0 if is_requeued or attempt == 1 else self._earlier_s(run_id, attempt)
            self._end_attempt(run_id, attempt, end, max(0.0, duration_s - earlier_s))
        if is_requeued:
            duration_s = self._earlier_s(run_id, None)
        resumable = is_requeued or end["resumable"]
        self._db.execute(
            "UPDATE runs SET outcome = ?, reason = ?, value = ?, duration_s = ?, resumable = ?"
            " WHERE run_id = ?",
            (end["outcome"], end["reason"], end["value"], duration_s, resumable, run_id),
        )

    def _earlier_s(self, run_id: str, attempt: int | None) -> float:
        """Return the total duration in seconds of a run's attempts before this one; None: of all."""
        query = "SELECT TOTAL(duration_s) FROM attempts WHERE run_id = ?1 AND (?2 IS NULL OR attempt < ?2)"
        return float(self._db.execute(query, (run_id, attempt)).fetchone()[0])

    def _end_attempt(self, run_id: str, attempt: int, end: Mapping[str, Any], took_s: float) -> None:
        self._db.execute(
            "UPDATE attempts SET outcome = ?, reason = ?, duration_s = ? WHERE run_id = ? AND attempt = ?",
            (end["outcome"], end["reason"], took_s, run_id, attempt),
        )
        used = end.get("consumption") or {}
        if any(amount is not None for amount in used.values()):
            values = (run_id, attempt, used["device_hours"], used["device_kwh"], used["cpu_kwh"])
            self._db.execute("INSERT OR REPLACE INTO consumption VALUES (?, ?, ?, ?, ?)", values)

    def _assign(self, slot: Slot, device: str | None) -> None:
        self._db.execute(
            "INSERT INTO workers VALUES (?, ?, 0) ON CONFLICT DO UPDATE SET device = excluded.device"
            " WHERE device IS NOT excluded.device",
            (slot, device),
        )

    def _replace_worker(self, slot: Slot, device: str | None, at: float) -> None:
        self._db.execute(
            "INSERT INTO workers VALUES (?, ?, 1) ON CONFLICT DO UPDATE"
            " SET device = excluded.device, restarts = restarts + 1",
            (slot, device),
        )
        self._add_incident(at, "restart", slot, device, "")

    def _add_incident(self, at: float, kind: str, slot: Slot | None, device: str | None, reason: str) -> None:
        self._db.execute("INSERT INTO marks VALUES (?, ?, ?, ?, ?)", (at, kind, slot, device, reason))

    # --- machines and their slots --------------------------------------------------------

    def machine(self, epoch: int | None) -> str:
        """Return the name of an epoch's machine; '' if it is unknown, or the sweep's only one."""
        if epoch not in self._names:
            found = self._db.execute("SELECT name FROM machines WHERE epoch = ?", (epoch,)).fetchone()
            if found is None:
                return ""
            self._names[epoch] = found[0]
        return self._names[epoch]

    def slot_at(self, epoch: int | None, number: int) -> Slot:
        """Return the slot of a machine's worker by its number there; a machine that comes back keeps it."""
        if (self.machine(epoch), number) in self._slots:
            return self._slots[self.machine(epoch), number]
        with self._written("NORMAL"):
            return self._slot(epoch, number)

    def _slot(self, epoch: int | None, number: int) -> Slot:
        machine = self.machine(epoch)
        if not machine:
            return Slot(number)
        if (machine, number) not in self._slots:
            self._db.execute(
                "INSERT OR IGNORE INTO places (slot, machine, number)"
                " SELECT COALESCE(MAX(slot) + 1, 0), ?, ? FROM places",
                (machine, number),
            )
            query = "SELECT slot FROM places WHERE machine = ? AND number = ?"
            self._slots[machine, number] = Slot(self._db.execute(query, (machine, number)).fetchone()[0])
        return self._slots[machine, number]

    @contextmanager
    def _written(self, synchronous: str = "FULL") -> Iterator[None]:
        """Open one transaction; a FULL one syncs itself and all earlier ones to disk at the end of the block.

        Waiting for the disk is nearly all of a session's cost per run, hence once and not twice.
        """
        self._expect_file()
        try:
            self._db.execute(f"PRAGMA synchronous = {synchronous}")
            with self._db:
                yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # an error in this code, not of the file
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in DAMAGED:
                raise LedgerError(f"{self._path} is damaged: {error}; restore a copy of it") from None
            passing = error.sqlite_errorcode & 0xFF in PASSING
            kind = NoRoomError if passing else LedgerError
            raise kind(f"the ledger can't be written: {error}; is there room on the disk?") from None

    def _expect_file(self) -> None:
        """Raise LedgerError if the file was removed or replaced: SQLite would go on in the unlinked file."""
        if self._file is None:
            return
        try:
            there = os.path.samestat(self._path.stat(), self._file)
        except OSError:
            there = False
        if not there:
            raise LedgerError(f"{self._path} was removed or replaced while the sweep ran: it ends here")


def _own(path: Path) -> int:
    """Take the sweep's lock, which ends with the process that holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise LedgerError(
            f"{path.parent}: another process ({owner}) runs this sweep; wait for it, or stop it"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def _prepare(db: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Bring a ledger's tables to LEDGER_FORMAT."""
    try:
        before = known_format(db, path)
        db.execute("PRAGMA journal_mode = WAL")
        if before < LEDGER_FORMAT:  # or new; one sync to disk, not one per table
            db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {LEDGER_FORMAT}; COMMIT;")
    except (sqlite3.Error, LedgerError):
        db.close()
        raise
    return db
