"""Devices that are shared by memory, played to `decide`: the number of workers, and too little memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from parallel_hpo.core.messages import Lease, Rerun
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.devices.health import DeviceClear
from parallel_hpo.devices.sharing import FIRST_RUNS, DeviceMemorySeen, Occupancy, OtherUsersSeen
from parallel_hpo.session.decide.demand import needs
from parallel_hpo.session.decide.events import (
    DrainAsked,
    RecordDrop,
    RecordEnd,
    ScaleAsked,
    Send,
    Spawn,
    StopAsked,
)
from parallel_hpo.session.decide.state import OpenRun
from tests.session.decide.test_device_care import ECC, OOM, Play

ROOM_MB = 80_000.0
A_THIRD_MB = 24_000.0
"""Three such fit, with the margin."""


class FillingPlay(Play):
    """A sweep on devices that are shared by memory; none has been measured."""

    def __init__(self, *devices: str, most: int = 8, **known: Any) -> None:
        super().__init__(*devices, occupancy=Occupancy(most), **known)

    def holds(self, slot: int, used_mb: float) -> None:
        self.event(DeviceMemorySeen(Slot(slot), used_mb, ROOM_MB))

    def measure(self, slot: int = 0, used_mb: float | None = A_THIRD_MB, runs: int = FIRST_RUNS) -> list[str]:
        """Let a slot perform the first runs of its device; return the messages about them."""
        said = []
        if used_mb is not None:
            self.holds(slot, used_mb)
        for _ in range(runs):
            self.run(slot, Outcome.FINISHED)
            said += self.words()
            self.back(slot)
        return said

    def fall_short(self, slot: int) -> RunId:
        """Let a slot's run fail for lack of memory."""
        run = self.begin(slot)
        self.end(slot, Outcome.FAILED, reason=OOM)
        return run

    def staying(self) -> list[int]:
        return [
            view.slot
            for view in self.view.slots
            if not view.is_terminal and view.state is not SlotState.STOPPING
        ]

    def rerun_orders(self) -> list[Rerun]:
        return [a.order for a in self.actions if isinstance(a, Send) and isinstance(a.order, Rerun)]


def recorded(play: Play) -> tuple[bool, Outcome]:
    """Return whether the attempt that ended last was its run's last, and its outcome."""
    record = play.only(RecordEnd)
    return record.final, record.end.outcome


@pytest.fixture
def three() -> FillingPlay:
    """Three workers on one device, ready, each with work."""
    play = FillingPlay("3")
    play.measure()
    play.ready()
    return play


def test_the_first_runs_have_the_device_to_themselves_one_at_a_time() -> None:
    play = FillingPlay("3")
    assert [view.lease_left for view in play.view.slots] == [1]
    play.holds(0, A_THIRD_MB)
    play.run(0, Outcome.FINISHED)
    play.back(0)
    assert play.orders(0) == [Lease(1)]
    assert len(play.view.slots) == 1


def test_after_its_first_runs_a_device_takes_as_many_workers_as_fit_in_memory() -> None:
    play = FillingPlay("3")
    for _ in range(FIRST_RUNS):
        play.run(0, Outcome.FAILED, "ValueError")
        play.back(0)
    assert play.view.occupancy is not None and not play.view.occupancy.of("3").is_measured
    told = play.measure()
    assert told == ["device 3 takes 3 workers at a time: its first runs held 24000 of 80000 MB"]
    play.ready()
    assert [(view.device, view.state) for view in play.view.slots] == [("3", SlotState.RUNNING)] * 3


def test_a_device_that_cannot_be_measured_keeps_one_worker_and_is_reported() -> None:
    play = FillingPlay("3")
    assert "can't be measured" in play.measure(used_mb=None)[0]
    assert len(play.view.slots) == 1


def test_each_device_is_measured_separately_and_workers_never_exceed_the_maximum() -> None:
    play = FillingPlay("3", "5", most=4)
    play.measure(0)
    assert [view.device for view in play.view.slots] == ["3", "5", "3", "3"]
    play.measure(1, used_mb=1000.0)
    assert len(play.view.slots) == 4


def test_no_worker_starts_without_a_run_for_it() -> None:
    play = FillingPlay("3", count=FIRST_RUNS + 1)
    play.measure()
    assert play.orders(0) == [Lease(1)] and not play.did(Spawn)


def test_fewer_workers_share_the_device_after_a_later_run_uses_more_memory(three: FillingPlay) -> None:
    three.begin(2)
    three.holds(1, 30_000.0)
    assert three.state(2) is SlotState.STOPPING
    assert three.view.slots[2].kill_at is None, "it may finish"
    three.end(2)
    three.die(2)
    assert three.staying() == [0, 1]


def test_a_run_that_runs_out_of_memory_beside_others_is_run_again_alone(three: FillingPlay) -> None:
    three.begin(1)
    run = three.fall_short(0)
    assert recorded(three) == (False, Outcome.STOPPED)
    assert (
        "as one of 3 workers" in three.words()[-1]
        and "then 2 at a time share the device" in three.words()[-1]
    )
    three.die(2)  # for good: one less
    three.die(0)
    assert not three.did(Spawn(Slot(0))), "another is at a run there"
    three.end(1)
    three.die(1, clear=False)
    assert not three.did(Spawn(Slot(0))), "what it held may not be free yet"
    three.event(DeviceClear(Slot(1)))
    assert three.did(Spawn(Slot(0))) and not three.did(Spawn(Slot(1)))
    three.ready()
    (order,) = three.rerun_orders()
    assert (order.run_id, order.attempt) == (run, 2)
    assert not three.did(Spawn(Slot(1)))
    three.begin_again(0, order)
    three.end(0, value=1.0)
    assert three.did(Spawn(Slot(1)))
    assert three.staying() == [0, 1]


def test_a_worker_ready_before_an_exclusive_run_waits_for_the_others_to_leave(three: FillingPlay) -> None:
    three.begin(0)
    three.die(0, "SIGKILL")
    (killed,) = three.view.reruns
    three.begin(2)
    short = three.fall_short(1)
    three.ready()
    assert three.orders(0) == [], "it gets neither that run nor another one"
    three.end(2)
    three.die(2)
    assert three.orders(0) == []
    three.die(1)
    assert [order.run_id for order in three.rerun_orders()] == [short]
    assert [run.run_id for run in three.view.reruns] == [killed.run_id]


def test_running_out_of_memory_alone_or_with_a_fixed_number_of_workers_fails_the_run() -> None:
    play = FillingPlay("3")
    play.fall_short(0)
    assert recorded(play) == (True, Outcome.FAILED)
    fixed = Play("3", workers_per_device=2)
    fixed.begin(1)
    fixed.run(0, Outcome.FAILED, OOM)
    assert recorded(fixed) == (True, Outcome.FAILED)


def test_two_runs_out_of_memory_at_once_are_run_again_one_after_the_other(three: FillingPlay) -> None:
    first, second = three.begin(0), three.begin(1)
    for slot in (0, 1):
        three.end(slot, Outcome.FAILED, reason=OOM)
    for slot in (2, 1, 0):
        three.die(slot)
    assert three.view.occupancy is not None and three.view.occupancy.of("3").fits == 2
    three.ready()
    (order,) = three.rerun_orders()
    assert order.run_id == first
    three.begin_again(0, order)
    assert three.state(1) is SlotState.STOPPED
    three.end(0, value=1.0)
    three.back(0)
    assert [order.run_id for order in three.rerun_orders()] == [second]


def test_an_exclusive_run_whose_worker_dies_stays_exclusive_and_uses_a_retry(three: FillingPlay) -> None:
    three.fall_short(0)
    for slot in (2, 1, 0):
        three.die(slot)
    three.ready()
    three.begin_again(0, three.rerun_orders()[0])
    three.die(0, "SIGKILL")
    (waiting,) = three.view.reruns
    assert (waiting.attempt, waiting.deaths, waiting.exclusive_on) == (3, 1, "3")


@pytest.mark.parametrize("why", ["in quarantine", "left to its owner"])
def test_an_exclusive_run_moves_to_another_device_if_its_own_is(why: str) -> None:
    play = FillingPlay("3", "5")
    play.measure(0)
    play.ready()
    play.begin(2)
    run = play.fall_short(0)
    if why == "in quarantine":
        play.end(2, Outcome.FAILED, reason=ECC)
    play.begin(1)
    if why == "left to its owner":
        play.event(OtherUsersSeen({"3": "process 7 computes on it"}))
    play.end(1, value=1.0)
    play.back(1)
    assert [order.run_id for order in play.rerun_orders()] == [run]


def test_a_device_in_use_by_others_gets_no_more_workers_once_it_is_measured() -> None:
    play = FillingPlay("3", "5")
    play.measure(0, runs=FIRST_RUNS - 1)
    play.begin(0)
    play.event(OtherUsersSeen({"3": "process 7 computes on it"}))
    play.end(0)
    assert play.view.occupancy is not None and play.view.occupancy.of("3").is_measured
    assert not play.did(Spawn)


def test_a_stop_records_a_waiting_exclusive_run_as_stopped_and_resumable(three: FillingPlay) -> None:
    three.begin(1)
    run = three.fall_short(0)
    three.event(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
    dropped = three.only(RecordDrop)
    assert (dropped.run.run_id, dropped.end.outcome, dropped.end.resumable) == (run, Outcome.STOPPED, True)


def test_a_drained_worker_is_not_replaced_and_measured_memory_limits_scaling(three: FillingPlay) -> None:
    three.event(DrainAsked(Slot(2)))
    three.die(2)
    assert three.staying() == [0, 1]
    three.event(ScaleAsked(3))
    assert three.staying() == [0, 1, 3]
    three.event(ScaleAsked(5))
    assert "as far as their memory was measured" in three.words()[-1]


def test_a_device_reserved_for_an_exclusive_run_requests_no_other_runs() -> None:
    play = FillingPlay("3")
    lone = OpenRun(RunId("lone"), {}, 2, exclusive_on="3")
    idle = replace(play.view.slots[0], busy=False, lease_left=0)
    kept = replace(play.view, reruns=(lone,), slots=(idle,))
    assert (needs(kept).wants, needs(kept).wants_again) == (0, 0), "others may have them meanwhile"
    assert needs(replace(kept, reruns=())).wants > 0
