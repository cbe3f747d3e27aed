"""The ledger: one SQLite file per sweep with all starts and ends. SQL only.

A start is on the disk before `main` is entered (WAL, synchronous=FULL). An end survives a process's death at
once, and a power cut after the next start; before that, the run would be run again under its own id. A lock
file beside the ledger keeps a second session out.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from parallel_hpo.core.errors import LedgerError, NoRoomError
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Parameters, RunId, Slot
from parallel_hpo.records.ledger_views import LEDGER_FORMAT, known_format
from parallel_hpo.records.reader import LedgerReader, is_emptied

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
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

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_emptied(path):
            raise LedgerError(
                f"{path} is damaged: it is empty, though the sweep has been run; restore a copy of it,"
                " or remove the sweep's folder to start a new count"
            )
        self._lock = _own(path.with_suffix(".lock"))
        try:
            super().__init__(_connect(path))
            self._path, self._file = path, path.stat()
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
        os.close(self._lock)

    def record_facts(self, facts: Mapping[str, Any]) -> None:
        """Record facts of the sweep, replacing earlier ones of the same name."""
        with self._written():
            rows = [(name, json.dumps(value)) for name, value in facts.items()]
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def record_spawn(self, slot: Slot, device: str | None, *, again: bool) -> None:
        """Record that a process is about to start in a slot; `again`: it replaces one that ended."""
        with self._written():
            self._db.execute(
                "INSERT INTO workers VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE"
                " SET device = excluded.device, restarts = restarts + excluded.restarts",
                (slot, device, int(again)),
            )
            if again:
                self._record_incident("restart", slot, device, "")

    def record_quarantine(self, device: str, reason: str) -> None:
        """Record that a device gets no runs for a while."""
        with self._written(synchronous="NORMAL"):
            self._record_incident("quarantine", None, device, reason)

    def _record_incident(self, kind: str, slot: Slot | None, device: str | None, reason: str) -> None:
        self._db.execute(
            "INSERT INTO marks VALUES (?, ?, ?, ?, ?)", (time.time(), kind, slot, device, reason)
        )

    def record_start(
        self,
        run_id: RunId,
        *,
        parameters: Parameters,
        attempt: int,
        slot: Slot,
        device: str | None,
        seed: int | None = None,
        at: float | None = None,
    ) -> None:
        """Record that an attempt is about to enter `main`; `at`: when it did, in seconds since the epoch."""
        now = time.time() if at is None else at
        with self._written():
            self._db.execute(
                "INSERT INTO runs (run_id, parameters, started_at, slot, device) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (run_id) DO UPDATE SET slot = excluded.slot, device = excluded.device,"
                " outcome = NULL, reason = '', resumable = 0",
                (run_id, json.dumps(parameters), now, slot, device),
            )
            self._db.execute(
                "INSERT INTO attempts (run_id, attempt, slot, started_at) VALUES (?, ?, ?, ?)",
                (run_id, attempt, slot, now),
            )
            if seed is not None:
                self._db.execute("INSERT OR IGNORE INTO seeds VALUES (?, ?)", (run_id, seed))

    def record_attempt_end(self, run_id: RunId, attempt: int, end: AttemptEnd) -> None:
        """Record the end of an attempt whose run may be run again."""
        with self._written(synchronous="NORMAL"):
            self._end_attempt(run_id, attempt, end, end.duration_s)

    def record_end(
        self, run_id: RunId, attempt: int | None, end: AttemptEnd, *, earlier_s: float = 0.0
    ) -> None:
        """Record the end of a run with its `attempt`-th attempt; None: no attempt was running.

        `earlier_s` is the part of the end's duration that earlier attempts took.
        """
        with self._written(synchronous="NORMAL"):
            if attempt is not None:
                self._end_attempt(run_id, attempt, end, max(0.0, end.duration_s - earlier_s))
            self._db.execute(
                "UPDATE runs SET outcome = ?, reason = ?, value = ?, duration_s = ?, resumable = ?"
                " WHERE run_id = ?",
                (end.outcome, end.reason, end.value, end.duration_s, end.resumable, run_id),
            )

    def _end_attempt(self, run_id: RunId, attempt: int, end: AttemptEnd, took_s: float) -> None:
        self._db.execute(
            "UPDATE attempts SET outcome = ?, reason = ?, duration_s = ? WHERE run_id = ? AND attempt = ?",
            (end.outcome, end.reason, took_s, run_id, attempt),
        )
        if end.consumption:
            self._db.execute(
                "INSERT OR REPLACE INTO consumption VALUES (?, ?, ?, ?, ?)",
                (run_id, attempt, *astuple(end.consumption)),
            )

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


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)  # before SQLite creates it, so that -wal and -shm get the same mode
    db = sqlite3.connect(path)
    try:
        is_older = known_format(db, path) < LEDGER_FORMAT
        db.execute("PRAGMA journal_mode = WAL")
        if is_older:  # or new; one sync to disk, not one per table
            db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {LEDGER_FORMAT}; COMMIT;")
    except (sqlite3.Error, LedgerError):
        db.close()
        raise
    return db
