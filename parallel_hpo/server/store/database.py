"""The database itself: opening it, and its transactions.

The transaction is the lock, so that any number of server processes may share one
database: a write waits for the one before it, so that what it reads stays true until
its end. SQLite has BEGIN IMMEDIATE for that, PostgreSQL gets an advisory lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from parallel_hpo.errors import BackendError
from parallel_hpo.server.store import pool_tables, queries, tables
from parallel_hpo.server.store.disk import Disk
from parallel_hpo.server.store.failures import DatabaseHealth, as_unavailable
from parallel_hpo.version import __version__

Transaction = Connection
"""An open transaction, as other rooms call it: they pass it on and know nothing of SQL."""

_BUSY_TIMEOUT_S: Final = 10
"""How long a write waits for another process's write; none asks a model of the search meanwhile."""
_WRITERS: Final = 0x48504F
"""The number of the lock in a PostgreSQL database; any, but the same in all of our processes."""


class Database:
    """An open database whose tables are at the newest revision."""

    def __init__(self, url: URL, *, busy_timeout_s: float) -> None:
        self._engine = _make_engine(url, busy_timeout_s)
        self.health = DatabaseHealth(Path(url.database or ""))
        self._of_sweeps: dict[str, Database] = {}
        # PostgreSQL has a transaction on its disk when it says that it is committed.
        self._disk = Disk(Path(f"{url.database}-wal")) if url.get_backend_name() == "sqlite" else None

    @classmethod
    def open(cls, where: str, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> Database:
        """Open, and where needed create or migrate, the database at a path or a SQLAlchemy URL.

        BackendError where it can't be opened, or was written by a newer version.
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
        """Return the same database, whose transactions find nothing of other sweeps."""
        if sweep_id not in self._of_sweeps:
            narrow = copy(self)
            narrow._engine = self._engine.execution_options(**{queries.OPTION: sweep_id})
            self._of_sweeps[sweep_id] = narrow
        return self._of_sweeps[sweep_id]

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads; UnavailableError where the database can't answer."""
        with as_unavailable(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write, and commit it; UnavailableError where the database can't."""
        self.health.expect_file()
        with as_unavailable(), self._engine.execution_options(immediate=True).begin() as connection:
            yield connection
        self.health.note_written()

    def outlast_a_power_cut(self) -> None:
        """Return once all that was committed before this call is on the disk.

        It waits for the disk and for no lock: other threads may go on writing meanwhile. OSError
        where the disk can't take it.
        """
        if self._disk is not None:
            self._disk.flush()

    def give_room_back(self) -> None:
        """Let the disk have what deleted rows took; UnavailableError where others are at the database.

        PostgreSQL gives back what is at its files' ends, and has the rest for new rows.
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
    """Return the URL of a database given as a path (SQLite) or as a URL."""
    if "://" not in where:
        return URL.create("sqlite", database=str(Path(where).absolute()))
    url = make_url(where)
    # SQLAlchemy would take the driver before the one that our extra installs.
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
    connection.isolation_level = None  # we begin transactions ourselves
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # Survives any death of the process; what must survive a power cut too is flushed by `Disk`.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("tables_may_go", False):
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")  # within a transaction it would do nothing
    if not options.get("in_no_transaction", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("immediate", False) else "BEGIN")


def _on_postgresql_begin(connection: Connection, *, timeout_ms: int) -> None:
    if connection.get_execution_options().get("immediate", False):
        lock = f"SET LOCAL lock_timeout = {timeout_ms}; SELECT pg_advisory_xact_lock({_WRITERS})"
        connection.exec_driver_sql(lock)


def _prepare(engine: Engine, name: str) -> None:
    """Bring the tables to the newest revision; a migration may drop a table to which others refer."""
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
        raise BackendError(_why_not(revision, name))
    elif revision != tables.HEAD:
        _migrate(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(select(tables.alembic_version.c.version_num))
    return revision


def _why_not(revision: str, name: str) -> str:
    """Return why nothing is done with a database at an unknown revision."""
    if len(revision) != len(tables.HEAD) or not revision.isdigit():  # Alembic itself would make a hash
        return f"the database {name} is another program's (Alembic's revision is {revision}); name another"
    return (
        f"the sweep server's database {name} was written by a newer parallel_hpo: its revision is {revision},"
        f" and this version, {__version__}, knows those up to {tables.HEAD}; upgrade parallel_hpo, or name"
        " another database"
    )


def _migrate(connection: Connection) -> None:
    from parallel_hpo.server.store.migrations import upgrade  # Alembic takes 0.2 s to import

    upgrade(connection)
