"""Copies of a pool's events in the ledger, and its notices for the observer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parallel_hpo.cluster.watcher import LAST_EVENT, EventCopier
from parallel_hpo.core.notices import (
    Message,
    Notice,
    OutputLine,
    RunBegan,
    RunOver,
    WorkerChanged,
    WorkerNamed,
)
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import MachineSummary, performed
from tests.cluster.pools import USED, joined, left, news, over, started


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "sweep" / "ledger.db") as kept:
        yield kept


def taken(ledger: Ledger, *several: object) -> list[Notice]:
    """Return the notices that follow from these news."""
    told: list[Notice] = []
    copier = EventCopier(ledger, told.append)
    for each in several:
        copier.take(each)  # type: ignore[arg-type]
    return told


def test_a_machines_folder_has_the_name_that_the_machine_gives_it(ledger: Ledger) -> None:
    taken(ledger, news(joined(1, 4, "rack 2/gpu:1", directory="/data")))
    assert [machine.folder for machine in ledger.machines()] == ["/data/sweep/machine-rack_2_gpu_1-4"]


def test_a_run_on_a_machine_is_recorded_in_the_ledger_and_reported_to_the_observer(ledger: Ledger) -> None:
    told = taken(
        ledger,
        news(joined(1, 1, "gpu1", directory="/data"), started(2, 1, "a"), over(3, 1, "a", Outcome.FINISHED)),
    )
    (row,) = ledger.runs()
    assert (row.machine, row.outcome, row.value, row.device) == ("gpu1", Outcome.FINISHED, 0.5, "GPU-1")
    assert (row.started_at, row.duration_s, row.consumption) == (102.0, 2.0, USED)
    assert ledger.machines() == [MachineSummary("gpu1", 1, 1, "", "/data/sweep/machine-gpu1-1")]
    assert told[1:] == [
        WorkerNamed(Slot(0), "gpu1/w0"),
        RunBegan(Slot(0), RunId("a"), 1, {"x": 1}, "GPU-1"),
        RunOver(Slot(0), RunId("a"), 1, Outcome.FINISHED, "reason", 0.5, 2.0),
    ]


def test_a_requeued_run_is_resumable_until_it_starts_elsewhere(ledger: Ledger) -> None:
    before = [joined(1, 1, "gpu1"), joined(2, 2, "gpu2"), started(3, 1, "a")]
    gone = [over(4, 1, "a", Outcome.STOPPED, kind="handed_on"), left(5, 1, "gpu1", "not heard for 300 s")]
    told = taken(ledger, news(*before, *gone))
    (row,) = ledger.runs()
    assert (row.outcome, row.resumable, row.deaths) == (Outcome.STOPPED, True, 0)
    over_there = [notice for notice in told if isinstance(notice, RunOver)]
    assert [notice.again for notice in over_there] == [True]
    taken(ledger, news(started(6, 2, "a", attempt=2)))
    (row,) = ledger.runs()
    assert (row.outcome, row.resumable, row.attempts, row.machine) == (None, False, 2, "gpu2")
    assert [machine.departure for machine in ledger.machines()] == ["not heard for 300 s", ""]


def test_each_event_is_copied_once_even_if_it_comes_twice(ledger: Ledger) -> None:
    events = [joined(1, 1, "gpu1"), started(2, 1, "a")]
    taken(ledger, news(*events), news(*events))
    assert taken(ledger, news(*events)) == []
    assert (len(list(ledger.runs())), ledger.last_event()) == (1, (2, 1))


def test_events_that_an_earlier_version_has_copied_are_not_copied_again(ledger: Ledger) -> None:
    ledger.record_facts({LAST_EVENT: 2})
    taken(ledger, news(joined(1, 1, "gpu1"), started(2, 1, "a"), joined(3, 2, "gpu2")))
    assert (list(ledger.runs()), [machine.name for machine in ledger.machines()]) == ([], ["gpu2"])


def test_a_crashed_attempt_does_not_end_its_run(ledger: Ledger) -> None:
    crash = over(3, 1, "a", Outcome.CRASHED, kind="attempt_ended")
    taken(ledger, news(joined(1, 1, "gpu1"), started(2, 1, "a"), crash))
    (row,) = ledger.runs()
    assert (row.outcome, row.deaths) == (None, 1)


def test_an_attempt_has_its_own_duration_and_its_run_the_total(ledger: Ledger, tmp_path: Path) -> None:
    crash = over(3, 1, "a", Outcome.CRASHED, kind="attempt_ended", duration_s=1.0)
    handed = over(5, 1, "a", Outcome.STOPPED, kind="handed_on", attempt=2, duration_s=2.0)
    ended = over(8, 2, "a", Outcome.FINISHED, attempt=3, duration_s=7.0)
    begun = [joined(1, 1, "gpu1"), started(2, 1, "a"), crash, started(4, 1, "a", attempt=2), handed]
    taken(ledger, news(*begun, joined(6, 2, "gpu2"), started(7, 2, "a", attempt=3), ended))
    (row,) = ledger.runs()
    (share,) = performed(tmp_path / "sweep")
    assert row.duration_s == 7.0
    assert [attempt.duration_s for attempt in share.attempts] == [1.0, 2.0, 4.0]


def test_workers_of_different_machines_have_different_slots_in_notices(ledger: Ledger) -> None:
    events = news(joined(1, 1, "gpu1"), joined(2, 2, "gpu2"), started(3, 1, "a"))
    lines = {2: OutputLine(Slot(0), "hello"), 1: OutputLine(Slot(0), "there")}
    told = taken(ledger, events, news(notices=lines))
    assert told[-3:] == [
        WorkerNamed(Slot(1), "gpu2/w0"),
        OutputLine(Slot(1), "hello"),
        OutputLine(Slot(0), "there"),
    ]


def test_a_message_from_a_machine_starts_with_the_machines_name(ledger: Ledger) -> None:
    told = taken(ledger, news(joined(1, 1, "gpu1")), news(notices={1: Message("low disk", warning=True)}))
    assert told[-1] == Message("gpu1: low disk", warning=True)


def test_a_notice_about_a_run_is_ignored_because_events_report_runs(ledger: Ledger) -> None:
    began = RunBegan(Slot(0), RunId("a"), 1)
    assert taken(ledger, news(joined(1, 1, "gpu1")), news(notices={1: began}))[1:] == []


def test_a_worker_that_died_counts_as_a_restart(ledger: Ledger) -> None:
    died = WorkerChanged(Slot(0), SlotState.BACKOFF, "SIGKILL")
    taken(ledger, news(joined(1, 1, "gpu1"), started(2, 1, "a")), news(notices={1: died}))
    assert [worker.restarts for worker in ledger.workers()] == [1]


def test_worker_names_of_an_earlier_launch_are_sent_again(ledger: Ledger) -> None:
    taken(ledger, news(joined(1, 1, "gpu1"), started(2, 1, "a")))
    told: list[Notice] = []
    EventCopier(ledger, told.append).name_workers()
    assert told == [WorkerNamed(Slot(0), "gpu1/w0")]
