"""A locked, removed or damaged database is reported once; and flushes of its log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from parallel_hpo.server.store.database import Database, Disk, UnavailableError

Told = list[tuple[str, bool]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with closing(Database.open(str(path), busy_timeout_s=0.02)) as database:
        yield database


@pytest.fixture
def told(database: Database) -> Told:
    """Reports of the database so far: the reason, and whether it is permanent."""
    told: Told = []
    database.health.report = lambda why, for_good: told.append((why, for_good))
    return told


def write(database: Database) -> None:
    with database.write() as transaction:
        transaction.execute(text("CREATE TABLE IF NOT EXISTS notes (line TEXT)"))
        transaction.execute(text("INSERT INTO notes VALUES ('x')"))


def test_a_lock_is_reported_when_it_begins_and_when_it_ends(
    database: Database, path: Path, told: Told
) -> None:
    write(database)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(UnavailableError):
                write(database)
        assert told == [(f"{path} can't be written now: database is locked", False)]
        other.rollback()
    write(database)
    write(database)
    assert told[1:] == [("", False)]


@pytest.mark.parametrize("put_another", [False, True])
def test_a_removed_database_is_lost(database: Database, path: Path, told: Told, put_another: bool) -> None:
    path.unlink()
    if put_another:
        path.touch()
    for _ in range(2):
        with pytest.raises(UnavailableError, match="was removed or replaced"):
            write(database)
    assert told == [(f"{path} was removed or replaced", True)]


def test_a_damaged_database_is_reported_as_lost(database: Database, path: Path, told: Told) -> None:
    with database.write() as transaction:
        transaction.execute(text("CREATE TABLE notes (line TEXT)"))
        transaction.execute(text("INSERT INTO notes VALUES (hex(randomblob(100000)))"))
    with database.read() as transaction:
        transaction.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        transaction.execute(text("PRAGMA cache_size = 0"))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(DBAPIError), database.write() as transaction:
        transaction.execute(text("INSERT INTO notes VALUES ('x')"))
    ((why, for_good),) = told
    assert why.startswith(f"{path} is damaged: ")
    assert for_good


def test_a_loss_is_reported_after_a_temporary_failure(database: Database, path: Path, told: Told) -> None:
    write(database)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError):
            write(database)
    path.unlink()
    with pytest.raises(UnavailableError):
        write(database)
    assert [for_good for _, for_good in told] == [False, True]


LOG = Path("/sweeps/server.db-wal")


class SlowDisk:
    """Blocks flushes of the log until released, and counts those that began and ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.first_began = Event()
        self.go_on = Event()

    def __call__(self, path: Path) -> None:
        if path != LOG:
            return
        self.begun += 1
        self.first_began.set()
        assert self.go_on.wait(10)
        self.ended += 1


def test_a_flush_returns_only_after_a_flush_that_began_later() -> None:
    slow = SlowDisk()
    log = Disk(LOG, flush_path=slow)

    def ask() -> bool:
        begun = slow.begun
        log.flush()
        return slow.ended > begun

    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(log.flush)
        assert slow.first_began.wait(10)
        others = [threads.submit(ask) for _ in range(19)]
        slow.go_on.set()
        first.result(10)
        assert all(other.result(10) for other in others)


def test_flushing_a_missing_log_does_nothing(tmp_path: Path) -> None:
    Disk(tmp_path / "server.db-wal").flush()
