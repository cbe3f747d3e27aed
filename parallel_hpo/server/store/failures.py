"""What the database's errors mean, to whom a request is answered and to whoever watches.

Of one: come again later, a value that it can't hold, or our own fault. Of all: whether the database can be
written, said once when it no longer can, and once when it can again. A full disk and a lock that somebody
holds may pass; a damaged or removed database does not.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
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

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

TellTrouble = Callable[[str, bool], None]
"""Is told what is wrong, '' once it is over, and whether it stays so."""


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


class DatabaseHealth:
    """One SQLite database's; `tell` may be set by whoever wants to know."""

    def __init__(self, path: Path) -> None:
        self.tell: TellTrouble = lambda why, for_good: None
        self._path = path
        self._file: os.stat_result | None = None
        self._why = ""
        self._for_good = False
        self._lock = Lock()
        """Whichever thread meets a trouble first tells of it, and no other does."""

    def watch(self, engine: Engine) -> None:
        """Hear of the engine's errors from now on."""
        self._file = self._path.stat()
        event.listen(engine, "handle_error", self._on_error)

    def expect_file(self) -> None:
        """Find the database where it was; UnavailableError where what is written would be in no file."""
        if self._file is None:
            return
        try:
            there = os.path.samestat(self._path.stat(), self._file)
        except OSError:
            there = False
        if not there:
            why = f"{self._path} was removed or replaced"
            self._note(why, for_good=True)
            raise UnavailableError(why)

    def note_written(self) -> None:
        """Something was written: all is well."""
        if not self._why:
            return
        with self._lock:
            self._why, self._for_good = "", False
            self.tell("", False)

    def _on_error(self, context: ExceptionContext) -> None:
        error = context.original_exception
        if not isinstance(error, sqlite3.Error):
            return
        damaged = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _DAMAGED
        if damaged or is_passing(error):
            what = "is damaged" if damaged else "can't be written now"
            self._note(f"{self._path} {what}: {error}", for_good=damaged)

    def _note(self, why: str, *, for_good: bool) -> None:
        with self._lock:
            if not self._why or (for_good and not self._for_good):
                self._why, self._for_good = why, for_good
                self.tell(why, for_good)
