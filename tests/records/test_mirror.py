"""The ledger of a sweep on many machines: slots of workers at machines, and what is written together."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from parallel_hpo.cluster.watcher import LedgerCopy
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.ledger_views import performed
from parallel_hpo.records.reader import MachineRow, open_reader


def start(ledger: LedgerCopy, run: str, machine: str, attempt: int = 1) -> None:
    slot, _ = ledger.slot_at(machine, 0)
    ledger.record_spawn(slot, None, again=False)
    ledger.record_start(RunId(run), parameters={}, attempt=attempt, slot=slot, device=None, at=5.0 * attempt)


def start_twice(ledger: LedgerCopy) -> None:
    for _ in range(2):
        start(ledger, "a", "gpu1")


def test_a_machines_workers_keep_their_slots_when_it_comes_back(tmp_path: Path) -> None:
    with LedgerCopy(tmp_path / "ledger.db") as ledger:
        assert [ledger.slot_at("gpu1", 0), ledger.slot_at("gpu2", 0)] == [(0, True), (1, True)]
        assert [ledger.slot_at("gpu1", 0), ledger.slot_at("gpu1", 1)] == [(0, False), (2, True)]
        assert ledger.places() == [(0, "gpu1", 0), (1, "gpu2", 0), (2, "gpu1", 1)]


def test_runs_and_workers_know_their_machine_and_machines_their_attempts(tmp_path: Path) -> None:
    with LedgerCopy(tmp_path / "ledger.db") as ledger:
        ledger.record_machine(1, "gpu1", "/data/s/machine-gpu1-1")
        ledger.record_machine(2, "gpu2", "")
        start(ledger, "a", "gpu1")
        ledger.record_attempt_end(RunId("a"), 1, AttemptEnd(outcome=Outcome.STOPPED, reason="gpu1 is gone"))
        ledger.record_departure(1, "silent for 300 s")
        start(ledger, "a", "gpu2", attempt=2)
        assert [run.machine for run in ledger.runs()] == ["gpu2"]
        assert [worker.machine for worker in ledger.workers()] == ["gpu1", "gpu2"]
        assert ledger.machines() == [
            MachineRow("gpu1", "/data/s/machine-gpu1-1", 1, "silent for 300 s"),
            MachineRow("gpu2", "", 1, ""),
        ]
        assert (ledger.machine(2), ledger.machine(3)) == ("gpu2", None)


def test_a_machine_that_came_back_takes_part_whatever_it_left_by_before(tmp_path: Path) -> None:
    with LedgerCopy(tmp_path / "ledger.db") as ledger:
        ledger.record_machine(1, "gpu1", "/old")
        ledger.record_departure(1, "SIGTERM")
        ledger.record_machine(2, "gpu1", "/new")
        assert ledger.machines() == [MachineRow("gpu1", "/new", 0, "")]


def test_what_is_written_together_is_there_together_or_not_at_all(tmp_path: Path) -> None:
    with LedgerCopy(tmp_path / "ledger.db") as ledger:
        with pytest.raises(sqlite3.IntegrityError), ledger.together():
            start_twice(ledger)
        assert (list(ledger.runs()), ledger.places()) == ([], [])
        with ledger.together():
            start(ledger, "b", "gpu1")
            ledger.record_facts({"event": 7})
    with open_reader(tmp_path / "ledger.db") as reader:
        assert ([run.run_id for run in reader.runs()], reader.facts) == (["b"], {"event": 7})


def test_a_chronicle_calls_workers_by_their_machine_and_times_are_the_pools(tmp_path: Path) -> None:
    with LedgerCopy(tmp_path / "ledger.db") as ledger:
        start(ledger, "a", "gpu1")
        start(ledger, "b", "gpu2")
        start(ledger, "a", "gpu2", attempt=2)
    (found,) = performed(tmp_path)
    assert [found.name_of(slot) for slot in found.slots] == ["gpu1 worker 0", "gpu2 worker 0"]
    assert [found.machine_of(slot) for slot in found.slots] == ["gpu1", "gpu2"]
    assert [attempt.started_at for attempt in found.attempts] == [5.0, 5.0, 10.0]


def test_a_ledger_of_an_earlier_version_has_one_machine(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        ledger.record_spawn(Slot(0), None, again=False)
        ledger.record_start(RunId("a"), parameters={}, attempt=1, slot=Slot(0), device=None)
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE places; DROP TABLE machines;")
    with open_reader(path) as reader:
        assert [run.machine for run in reader.runs()] == [None]
        assert ([worker.machine for worker in reader.workers()], reader.machines()) == ([None], [])
    (found,) = performed(tmp_path)
    assert [found.name_of(slot) for slot in found.slots] == ["worker 0"]
