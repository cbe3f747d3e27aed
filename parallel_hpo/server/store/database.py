"""The database: opening, migration, transactions, flushes to the disk, and the meaning of its errors.

The transaction is the lock, so that several server processes may share one database: a write waits for the
one before it, and what it reads stays true until its end. SQLite has BEGIN IMMEDIATE for that, PostgreSQL
gets an advisory lock.

A commit in SQLite doesn't wait for the disk; a flush does, and blocks no transaction. One flush serves all
callers that arrived before it began:

    commit ─▶ in the log ─▶ survives the process's death ─▶ flush ─▶ survives a power cut
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, InterfaceError, OperationalError

from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.version import __version__
from parallel_hpo.server.store import pool_tables, tables
from parallel_hpo.server.values import RefusedError


def flush_path(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class Disk:
    """Flushes SQLite's write-ahead log to the disk."""

    def __init__(self, log: Path, *, flush_path: Callable[[Path], None] = flush_path) -> None:
        self._log = log
        self._flush_path = flush_path
        self._folder_flushed = False
        self._asked = self._served = 0
        self._asking = Lock()
        self._flushing = Lock()

    def flush(self) -> None:
        """Return once everything in the log before this call is on the disk; OSError if that fails."""
        with self._asking:
            self._asked += 1
            mine = self._asked
        with self._flushing:
            if self._served >= mine:
                return  # by the call before
            served = self._asked
            self._flush()
            self._served = served

    def _flush(self) -> None:
        try:
            # SQLite's locks are on other files, so closing this one releases none.
            self._flush_path(self._log)
        except FileNotFoundError:
            return  # merged into the database, which SQLite has flushed
        if not self._folder_flushed:  # the log's directory entry
            self._flush_path(self._log.parent)
            self._folder_flushed = True


_TRANSIENT: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,  # too many processes for its lock file
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)
"""SQLite's codes for transient states of the machine, rather than errors of a statement."""

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

ReportTrouble = Callable[[str, bool], None]
"""Gets the problem, '' once it is resolved, and whether it is permanent."""


class UnavailableError(Exception):
    """The database can't answer now (busy, disk full, gone): the client should retry."""


@contextmanager
def as_unavailable() -> Iterator[None]:
    """Raise UnavailableError for transient errors, and RefusedError for values that don't fit."""
    try:
        yield
    except DBAPIError as error:
        if _is_transient(error):
            raise UnavailableError(str(error.orig)) from error
        if isinstance(error, DataError):
            raise RefusedError(f"a value doesn't fit into the database: {error.orig}", status=400) from error
        raise


def is_transient(error: sqlite3.Error) -> bool:
    """Return whether an error of SQLite is transient."""
    # Python's driver has one class for a busy database, a full disk, and a missing table.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in _TRANSIENT


def _is_transient(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return is_transient(error.orig)
    return isinstance(error, OperationalError | InterfaceError)


class DatabaseHealth:
    """The state of a SQLite database; its changes are reported to `report`.

    A full disk and a lock are transient; a damaged or removed database is permanent.
    """

    def __init__(self, path: Path) -> None:
        self.report: ReportTrouble = lambda problem, permanent: None
        self._path = path
        self._file: os.stat_result | None = None
        self._problem = ""
        self._permanent = False
        self._lock = Lock()
        """Only the first thread with a problem reports it."""

    def watch(self, engine: Engine) -> None:
        """Listen to the engine's errors from now on."""
        self._file = self._path.stat()
        event.listen(engine, "handle_error", self._on_error)

    def expect_file(self) -> None:
        """Raise UnavailableError if the database's file was removed or replaced."""
        if self._file is None:
            return
        try:
            there = os.path.samestat(self._path.stat(), self._file)
        except OSError:
            there = False
        if not there:
            problem = f"{self._path} was removed or replaced"
            self._note(problem, permanent=True)
            raise UnavailableError(problem)

    def note_written(self) -> None:
        """Report that a problem is resolved, after a successful write."""
        if not self._problem:
            return
        with self._lock:
            self._problem, self._permanent = "", False
            self.report("", False)

    def _on_error(self, context: ExceptionContext) -> None:
        error = context.original_exception
        if not isinstance(error, sqlite3.Error):
            return
        damaged = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _DAMAGED
        if damaged or is_transient(error):
            what = "is damaged" if damaged else "can't be written now"
            self._note(f"{self._path} {what}: {error}", permanent=damaged)

    def _note(self, problem: str, *, permanent: bool) -> None:
        with self._lock:
            if not self._problem or (permanent and not self._permanent):
                self._problem, self._permanent = problem, permanent
                self.report(problem, permanent)


Transaction = Connection
"""An open transaction; other packages only pass it on."""

_BUSY_TIMEOUT_S: Final = 10
"""Timeout of a write that waits for another process's, in seconds; no search model is asked within one."""
_WRITERS: Final = 0x48504F
"""The number of the advisory lock in PostgreSQL: arbitrary, but the same in all processes."""


class Database:
    """An open database at the newest revision."""

    def __init__(self, url: URL, *, busy_timeout_s: float) -> None:
        self._engine = _make_engine(url, busy_timeout_s)
        self.health = DatabaseHealth(Path(url.database or ""))
        self._of_sweeps: dict[str, Database] = {}
        # PostgreSQL's commits wait for the disk.
        self._disk = Disk(Path(f"{url.database}-wal")) if url.get_backend_name() == "sqlite" else None

    @classmethod
    def open(cls, where: str, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> Database:
        """Open the database at a path or a SQLAlchemy URL; create or migrate it if needed.

        BackendError if it can't be opened, or was written by a newer version.
        """
        try:
            database = cls(database_url(where), busy_timeout_s=busy_timeout_s)
            _prepare(database._engine, shown(where))
            if database._engine.dialect.name == "sqlite":
                database.health.watch(database._engine)
        except DBAPIError as error:
            raise BackendError(
                f"the sweep server can't open its database {shown(where)}: {error.orig}"
            ) from error
        except ArgumentError as error:
            raise BackendError(
                f"--database must be a path or a URL as postgresql://user@host/name: {error}"
            ) from error
        except ImportError as error:
            raise BackendError(
                f"the sweep server has no driver for its database: {error}; "
                "for PostgreSQL: pip install 'parallel_hpo[postgres]'"
            ) from error
        return database

    def of_sweep(self, sweep_id: str) -> Database:
        """Return the same database with transactions limited to one sweep."""
        if sweep_id not in self._of_sweeps:
            narrow = copy(self)
            narrow._engine = self._engine.execution_options(**{tables.OPTION: sweep_id})
            self._of_sweeps[sweep_id] = narrow
        return self._of_sweeps[sweep_id]

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read-only transaction; UnavailableError if the database can't answer."""
        with as_unavailable(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write, and commit it; UnavailableError if the database can't."""
        self.health.expect_file()
        with as_unavailable(), self._engine.execution_options(immediate=True).begin() as connection:
            yield connection
        self.health.note_written()

    def flush(self) -> None:
        """Return once all earlier commits are on the disk; OSError if that fails.

        It takes no lock of the database, so other threads may write meanwhile.
        """
        if self._disk is not None:
            self._disk.flush()

    def vacuum(self) -> None:
        """Return the space of deleted rows to the disk; UnavailableError if the database is in use.

        PostgreSQL frees the ends of its files, and reuses the rest for new rows.
        """
        if self._disk is None:
            alone = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            with as_unavailable(), alone.connect() as connection:
                connection.exec_driver_sql("VACUUM")
            return
        alone = self._engine.execution_options(in_no_transaction=True)
        with as_unavailable(), alone.connect() as connection:
            if connection.exec_driver_sql("PRAGMA freelist_count").scalar():
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def database_url(where: str) -> URL:
    """Return the URL of a database, given as a path (SQLite) or a URL."""
    if "://" not in where:
        return URL.create("sqlite", database=str(Path(where).absolute()))
    url = make_url(where)
    # SQLAlchemy's default driver is not the one that our extra installs.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def shown(where: str) -> str:
    """Return a database's path, or its URL without the password."""
    return make_url(where).render_as_string(hide_password=True) if "://" in where else where


def _make_engine(url: URL, busy_timeout_s: float) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": busy_timeout_s})
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    elif url.get_backend_name() == "postgresql":
        engine = create_engine(url)
        event.listen(engine, "begin", partial(_on_postgresql_begin, timeout_ms=round(busy_timeout_s * 1000)))
    else:
        raise ArgumentError(f"{url.get_backend_name()} is neither sqlite nor postgresql")
    return engine


def _on_sqlite_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin in _on_sqlite_begin
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # Survives the process's death; `Disk` flushes what must survive a power cut.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("tables_may_go", False):
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")  # has no effect within a transaction
    if not options.get("in_no_transaction", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("immediate", False) else "BEGIN")


def _on_postgresql_begin(connection: Connection, *, timeout_ms: int) -> None:
    if connection.get_execution_options().get("immediate", False):
        lock = f"SET LOCAL lock_timeout = {timeout_ms}; SELECT pg_advisory_xact_lock({_WRITERS})"
        connection.exec_driver_sql(lock)


def _prepare(engine: Engine, name: str) -> None:
    """Create or migrate the tables, without foreign keys: a migration may drop a referenced table."""
    with engine.execution_options(immediate=True, tables_may_go=True).connect() as connection:
        with connection.begin():
            _bring_up(connection, name)
        if engine.dialect.name == "sqlite":
            _on_sqlite_connect(connection.connection.driver_connection, None)  # with foreign keys again


def _bring_up(connection: Connection, name: str) -> None:
    revision = _revision(connection)
    if revision is None:
        pool_tables.pools.metadata.create_all(connection)  # with those of `tables`
        connection.execute(insert(tables.alembic_version).values(version_num=tables.HEAD))
    elif revision not in tables.REVISIONS:
        raise BackendError(_unknown_revision(revision, name))
    elif revision != tables.HEAD:
        _migrate(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(select(tables.alembic_version.c.version_num))
    return revision


def _unknown_revision(revision: str, name: str) -> str:
    """Return an error message for a database at an unknown revision."""
    if len(revision) != len(tables.HEAD) or not revision.isdigit():  # as Alembic's own ids, which are hashes
        return f"the database {name} is another program's (Alembic's revision is {revision}); name another"
    return (
        f"the sweep server's database {name} was written by a newer parallel_hpo: its revision is {revision},"
        f" and this version, {__version__}, knows those up to {tables.HEAD}; upgrade parallel_hpo, or name"
        " another database"
    )


def _migrate(connection: Connection) -> None:
    from parallel_hpo.server.store.migrations import upgrade  # Alembic takes 0.2 s to import

    upgrade(connection)
