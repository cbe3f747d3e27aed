"""What a sweep's folder tells of workers and devices, read beside the ledgers' owners."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import LEDGER_FORMAT, MachineSummary, ledger_counts, performed
from tests.cluster.pools import joined, left, over, started
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


def test_a_newer_ledger_is_refused_a_damaged_one_is_an_error_and_a_folder_without_one_tells_nothing(
    tmp_path: Path,
) -> None:
    assert performed(tmp_path / "nothing") == []
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.execute(f"PRAGMA user_version = {LEDGER_FORMAT + 1}")
    for read in (performed, ledger_counts):
        with pytest.raises(LedgerError, match=r"ledger\.db was written by a newer parallel_hpo"):
            read(tmp_path)
    (tmp_path / "ledger.db").write_bytes(b"no ledger" * 1000)
    with pytest.raises(LedgerError, match=r"ledger\.db can't be read"):
        performed(tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "s" / "ledger.db") as ledger:
        yield ledger


def test_a_machines_workers_keep_their_slots_when_it_comes_back(ledger: Ledger) -> None:
    ledger.append([joined(1, 1, "gpu1"), joined(2, 2, "gpu2")], durable=False)
    assert [ledger.slot_at(1, 0), ledger.slot_at(2, 0)] == [0, 1]
    ledger.append([left(3, 1, "gpu1", "SIGTERM"), joined(4, 3, "gpu1")], durable=False)
    assert [ledger.slot_at(3, 0), ledger.slot_at(3, 1)] == [0, 2]
    assert ledger.places() == {0: ("gpu1", 0), 1: ("gpu2", 0), 2: ("gpu1", 1)}


def test_runs_and_workers_know_their_machine_and_machines_their_attempts(ledger: Ledger) -> None:
    begun = [joined(1, 1, "gpu1", directory="/data"), joined(2, 2, "gpu2"), started(3, 1, "a")]
    gone = [over(4, 1, "a", Outcome.STOPPED, kind="handed_on"), left(5, 1, "gpu1", "not heard for 300 s")]
    ledger.append([*begun, *gone, started(6, 2, "a", attempt=2)], durable=False)
    assert [run.machine for run in ledger.runs()] == ["gpu2"]
    assert [worker.machine for worker in ledger.workers()] == ["gpu1", "gpu2"]
    assert ledger.machines() == [
        MachineSummary("gpu1", 0, 1, "not heard for 300 s", "/data/s/machine-gpu1-1"),
        MachineSummary("gpu2", 1, 1, ""),
    ]
    assert (ledger.machine(2), ledger.machine(3)) == ("gpu2", "")


def test_a_run_that_comes_from_another_machine_has_the_number_of_its_last_attempt(ledger: Ledger) -> None:
    ledger.append([joined(1, 1, "gpu1"), started(2, 1, "a", attempt=3)], durable=False)
    assert [run.attempts for run in ledger.runs()] == [3]


def test_a_machine_that_came_back_takes_part_whatever_it_left_by_before(ledger: Ledger) -> None:
    before = [joined(1, 1, "gpu1", directory="/old"), left(2, 1, "gpu1", "SIGTERM")]
    ledger.append([*before, joined(3, 2, "gpu1", directory="/new")], durable=False)
    assert ledger.machines() == [MachineSummary("gpu1", 0, 0, "", "/new/s/machine-gpu1-2")]


def test_events_appended_together_are_there_together_or_not_at_all(ledger: Ledger) -> None:
    ledger.append([joined(1, 1, "gpu1")], durable=False)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.append([started(2, 1, "a"), started(3, 1, "a")], durable=False)
    assert (list(ledger.runs()), ledger.workers(), ledger.places()) == ([], [], {})
    assert ledger.last_event() == (1, 1)
    ledger.append([started(2, 1, "b")], durable=False)
    assert [(run.run_id, run.machine) for run in ledger.runs()] == [("b", "gpu1")]
    assert [worker.device for worker in ledger.workers()] == ["GPU-1"]


def test_workers_are_named_by_their_machine_and_times_are_the_pools(ledger: Ledger, tmp_path: Path) -> None:
    machines = [joined(1, 1, "gpu1"), joined(2, 2, "gpu2")]
    runs = [started(3, 1, "a"), started(4, 2, "b"), started(5, 2, "a", attempt=2)]
    ledger.append([*machines, *runs], durable=False)
    (found,) = performed(tmp_path / "s")
    assert [found.name_of(slot) for slot in found.slots] == ["gpu1 worker 0", "gpu2 worker 0"]
    assert [found.machine_of(slot) for slot in found.slots] == ["gpu1", "gpu2"]
    assert [attempt.started_at for attempt in found.attempts] == [103.0, 104.0, 105.0]
