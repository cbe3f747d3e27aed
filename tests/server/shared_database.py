"""A database that all tests of a process share, empty at the beginning of each test.

The costly parts of a short test stay from the previous one: tables, connections, and the statements
that SQLAlchemy has compiled, as in a server that runs for days.
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
        """Remove what the previous test left."""
        if self._path is not None:
            self.database.close()  # its log is removed with the last connection
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
        # TRUNCATE would create a table's files again.
        *(f"DELETE FROM {table.name}" for table in metadata.sorted_tables if table is not alembic_version),
        "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence",
    ]
)
