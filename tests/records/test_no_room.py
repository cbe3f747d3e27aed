"""A ledger that is temporarily unwritable, damaged or removed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from parallel_hpo.core.errors import LedgerError, NoRoomError
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.pool_messages import PoolEvent
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from tests.ledgers import record_attempt_end, record_start


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        yield ledger


def begin(ledger: Ledger, run_id: str, text: str = "") -> None:
    record_start(ledger, RunId(run_id), parameters={"x": text}, attempt=1, slot=Slot(0), device=None)


def test_a_full_ledger_raises_no_room_error_and_accepts_the_record_later(ledger: Ledger) -> None:
    begin(ledger, "first")
    pages = limit_pages(ledger)
    with pytest.raises(NoRoomError, match="can't be written: database or disk is full; is there room"):
        begin(ledger, "second", "x" * 100_000)
    assert [row.run_id for row in ledger.runs()] == ["first"]
    limit_pages(ledger, pages + 1000)
    begin(ledger, "second", "x" * 100_000)
    assert [row.run_id for row in ledger.runs()] == ["first", "second"]


def limit_pages(ledger: Ledger, pages: int = 1) -> int:
    """Limit the ledger's file to this many pages (1: the present size); return the limit."""
    (answer,) = ledger._db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    return int(answer)


@contextmanager
def lock(ledger: Ledger, folder: Path) -> Iterator[None]:
    """Lock the ledger from another connection, so that it can't be written."""
    ledger._db.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_locked_ledger_raises_no_room_error(ledger: Ledger, tmp_path: Path) -> None:
    with lock(ledger, tmp_path), pytest.raises(NoRoomError, match="locked"):
        begin(ledger, "first")
    begin(ledger, "first")


def test_a_missing_table_is_a_ledger_error_but_no_no_room_error(ledger: Ledger) -> None:
    ledger._db.execute("DROP TABLE attempts")
    with pytest.raises(LedgerError) as refused:
        record_attempt_end(ledger, RunId("r"), 1, AttemptEnd(outcome=Outcome.CRASHED))
    assert not isinstance(refused.value, NoRoomError)


def test_an_empty_ledger_beside_a_workers_folder_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "worker-0").mkdir()
    (tmp_path / "ledger.db").touch()
    with pytest.raises(LedgerError, match=r"ledger\.db is damaged: it is empty"):
        Ledger(tmp_path / "ledger.db")


def test_an_empty_ledger_file_without_workers_is_a_new_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert list(ledger.runs()) == []


@pytest.mark.parametrize("put_another", [False, True])
def test_a_ledger_removed_or_replaced_while_open_is_an_error(tmp_path: Path, put_another: bool) -> None:
    path = tmp_path / "sweep" / "ledger.db"
    with Ledger(path) as ledger:
        begin(ledger, "first")
        for file in path.parent.iterdir():
            file.unlink()
        if put_another:
            path.write_bytes(b"x")
        with pytest.raises(LedgerError, match=r"ledger\.db was removed or replaced while") as said:
            begin(ledger, "second")
        assert not isinstance(said.value, NoRoomError), "it would be waited for"


def test_damage_of_an_open_ledger_is_reported_on_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        for number in range(100):
            begin(ledger, f"run{number}")
        ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with Ledger(path) as ledger:
        ledger._db.execute("PRAGMA cache_size = 0")
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (len(content) - 4096))
        with pytest.raises(LedgerError, match=r"ledger\.db is damaged: database disk image is malformed"):
            ledger.append([PoolEvent(101, 0.0, None, "left", {"name": ""})], durable=False)
        with pytest.raises(LedgerError, match="can't be read: database disk image is malformed"):
            list(ledger.runs())
