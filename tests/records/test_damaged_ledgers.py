"""Ledgers that are damaged, emptied or removed: said by their path, and never taken for new ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.core.errors import LedgerError, NoRoomError
from parallel_hpo.core.pool_messages import PoolEvent
from parallel_hpo.core.types import RunId, Slot
from parallel_hpo.records.ledger import Ledger
from tests.ledgers import record_start


def start(ledger: Ledger, run_id: str) -> None:
    record_start(ledger, RunId(run_id), parameters={}, attempt=1, slot=Slot(0), device=None)


def test_a_ledger_of_no_length_beside_workers_is_no_new_one(tmp_path: Path) -> None:
    (tmp_path / "worker-0").mkdir()
    (tmp_path / "ledger.db").touch()
    with pytest.raises(LedgerError, match=r"ledger\.db is damaged: it is empty"):
        Ledger(tmp_path / "ledger.db")


def test_a_ledger_that_was_just_being_made_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert list(ledger.runs()) == []


@pytest.mark.parametrize("put_another", [False, True])
def test_a_ledger_that_is_removed_while_it_is_written_is_missed(tmp_path: Path, put_another: bool) -> None:
    path = tmp_path / "sweep" / "ledger.db"
    with Ledger(path) as ledger:
        start(ledger, "first")
        for file in path.parent.iterdir():
            file.unlink()
        if put_another:
            path.write_bytes(b"x")
        with pytest.raises(LedgerError, match=r"ledger\.db was removed or replaced while") as said:
            start(ledger, "second")
        assert not isinstance(said.value, NoRoomError), "it would be waited for"


def test_a_ledger_that_is_damaged_while_it_is_written_and_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        for number in range(100):
            start(ledger, f"run{number}")
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
