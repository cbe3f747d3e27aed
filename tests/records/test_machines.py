"""The ledger of a sweep on many machines, made from the events of its pool."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from parallel_hpo.core.types import Outcome
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import MachineSummary, performed
from tests.cluster.pools import joined, left, over, started


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
