"""What a sweep's folder tells of workers and devices, read beside the ledgers' owners."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import LEDGER_FORMAT, ledger_counts, performed
from tests.ledgers import record_attempt_end, record_end, record_quarantine, record_spawn, record_start

RUN = RunId("run1")


def start(ledger: Ledger, attempt: int = 1) -> None:
    record_start(ledger, RUN, parameters={}, attempt=attempt, slot=Slot(0), device="3")


def test_attempts_are_read_with_their_ends_while_the_ledger_is_written(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.record_facts({"path": "local/p/sweep"})
        start(ledger)
        record_attempt_end(
            ledger, RUN, 1, AttemptEnd(outcome=Outcome.CRASHED, reason="SIGKILL", duration_s=2.0)
        )
        start(ledger, attempt=2)
        (share,) = performed(tmp_path)
    first, second = share.attempts
    assert (share.share, share.path, share.devices, share.slots) == ("", "local/p/sweep", {RUN: "3"}, [0])
    assert (first.attempt, first.outcome, first.reason) == (1, Outcome.CRASHED, "SIGKILL")
    assert first.ended_at == first.started_at + 2.0
    assert (second.attempt, second.outcome, second.ended_at) == (2, None, None)


def test_the_last_attempt_of_a_run_took_what_it_took_itself(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
        record_attempt_end(
            ledger, RUN, 1, AttemptEnd(outcome=Outcome.CRASHED, reason="SIGKILL", duration_s=2.0)
        )
        start(ledger, attempt=2)
        record_end(ledger, RUN, 2, AttemptEnd(outcome=Outcome.FINISHED, duration_s=5.0))
        (row,) = ledger.runs()
        (share,) = performed(tmp_path)
    assert ([attempt.duration_s for attempt in share.attempts], row.duration_s) == ([2.0, 3.0], 5.0)


def test_incidents_of_workers_and_devices_are_in_order(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        record_spawn(ledger, Slot(0), "3", again=False)
        record_spawn(ledger, Slot(0), "3", again=True)
        record_quarantine(ledger, "3", "exit 1")
    (share,) = performed(tmp_path)
    assert [(mark.kind, mark.slot, mark.device, mark.reason) for mark in share.incidents] == [
        ("restart", 0, "3", ""),
        ("quarantine", None, "3", "exit 1"),
    ]
    assert share.assigned == {0: "3"}


def test_shares_are_read_one_by_one(tmp_path: Path) -> None:
    for name in ("share-2-of-2", "share-1-of-2"):
        with Ledger(tmp_path / name / "ledger.db") as ledger:
            start(ledger)
    assert [share.share for share in performed(tmp_path)] == ["share-1-of-2", "share-2-of-2"]


def test_a_ledger_of_an_earlier_version_has_no_marks(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.execute("DROP TABLE marks")
    (share,) = performed(tmp_path)
    assert (share.incidents, len(share.attempts)) == ((), 1)


def test_a_ledger_of_a_newer_version_is_refused_in_words(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.execute(f"PRAGMA user_version = {LEDGER_FORMAT + 1}")
    for read in (performed, ledger_counts):
        with pytest.raises(LedgerError, match=r"ledger\.db was written by a newer parallel_hpo"):
            read(tmp_path)


def test_a_folder_without_a_ledger_tells_nothing_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    assert performed(tmp_path / "nothing") == []
    (tmp_path / "ledger.db").write_bytes(b"no ledger" * 1000)
    with pytest.raises(LedgerError, match=r"ledger\.db can't be read"):
        performed(tmp_path)
