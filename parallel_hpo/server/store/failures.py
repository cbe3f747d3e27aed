"""What the database's errors mean: come again later, a value that it can't hold, or our own fault."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError

from parallel_hpo.server.refusals import RefusedError

_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,  # too many at once for its lock file
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)
"""SQLite's codes for what lies in the machine's state and not in our statement."""


class UnavailableError(Exception):
    """The database can't answer now (busy, disk full, gone): the client should try again."""


@contextmanager
def as_unavailable() -> Iterator[None]:
    """Raise UnavailableError or RefusedError for what is no fault of ours; let the rest pass."""
    try:
        yield
    except DBAPIError as error:
        if _may_pass(error):
            raise UnavailableError(str(error.orig)) from error
        if isinstance(error, DataError):
            raise RefusedError(f"a value doesn't fit into the database: {error.orig}", status=400) from error
        raise


def is_passing(error: sqlite3.Error) -> bool:
    """Whether an error of SQLite's may not be there at the next try."""
    # Python's driver has one class for a busy database, a full disk, and a missing table.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in _PASSING


def _may_pass(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return is_passing(error.orig)
    return isinstance(error, OperationalError | InterfaceError)
