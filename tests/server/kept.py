"""Databases that serve all tests of a process, one of each kind, empty at the beginning of each test.

What costs most of a short test stays from the one before: tables, connections, and what SQLAlchemy
made of our statements, as in a server that runs for days.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.tables import alembic_version, metadata
from tests.postgresql import PostgreSQL


class StoredSweep(Protocol):
    """A database of one kind."""

    where: str
    """Its path or URL, for whoever opens it again beside the test."""
    database: Database

    def empty(self) -> None:
        """Take away what the test before left."""

    def close(self) -> None:
        """Close its connections."""


@cache
def empty_sqlite() -> bytes:
    """Return the content of a new SQLite database."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        Database.open(str(path)).close()
        return path.read_bytes()


class KeptSQLite:
    """A file that is written anew for each test."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.write_bytes(empty_sqlite())
        self.where = str(path)
        self.database = Database.open(self.where)

    def empty(self) -> None:
        self.database.close()  # with its last connection its log goes
        assert not Path(f"{self._path}-wal").exists(), "the test before left a connection open"
        self._path.write_bytes(empty_sqlite())

    def close(self) -> None:
        self.database.close()


class KeptPostgreSQL:
    """A database on the tests' own server; its rows are deleted: to truncate a table makes its files anew."""

    def __init__(self, server: PostgreSQL) -> None:
        self.where = server.fresh()
        self.database = Database.open(self.where)

    def empty(self) -> None:
        with self.database.write() as transaction:
            transaction.exec_driver_sql(_EMPTY)

    def close(self) -> None:
        self.database.close()


_EMPTY = ";".join(
    [
        "SET LOCAL session_replication_role = replica",  # no foreign key is checked where all rows go
        *(f"DELETE FROM {table.name}" for table in metadata.sorted_tables if table is not alembic_version),
        "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence",
    ]
)
