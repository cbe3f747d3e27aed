"""A database that serves all tests of a process, empty at the beginning of each test.

What costs most of a short test stays from the one before: tables, connections, and what SQLAlchemy
made of our statements, as in a server that runs for days.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.tables import alembic_version, metadata


@cache
def empty_sqlite() -> bytes:
    """Return the content of a new SQLite database."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        Database.open(str(path)).close()
        return path.read_bytes()


class KeptDatabase:
    """A SQLite file or a PostgreSQL database, by its path or URL."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._path = None if "://" in where else Path(where)
        if self._path is not None:
            self._path.write_bytes(empty_sqlite())
        self.database = Database.open(where)

    def empty(self) -> None:
        """Take away what the test before left."""
        if self._path is not None:
            self.database.close()  # with its last connection its log goes
            assert not Path(f"{self._path}-wal").exists(), "the test before left a connection open"
            self._path.write_bytes(empty_sqlite())
        else:
            with self.database.write() as transaction:
                transaction.exec_driver_sql(_EMPTY_POSTGRESQL)

    def close(self) -> None:
        self.database.close()


_EMPTY_POSTGRESQL: Final = ";".join(
    [
        "SET LOCAL session_replication_role = replica",  # no foreign key is checked where all rows go
        # To truncate a table would make its files anew.
        *(f"DELETE FROM {table.name}" for table in metadata.sorted_tables if table is not alembic_version),
        "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence",
    ]
)
