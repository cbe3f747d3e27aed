"""Sweeps on two devices, played in memory: what runs, deaths and other users mean for a device."""

from __future__ import annotations

from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import Drain, Lease, Rerun
from parallel_hpo.core.pool_messages import Granted
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.devices.health import FAILURES_IN_A_ROW, QUARANTINE_S, DeviceClear
from parallel_hpo.devices.sharing import FREE_AFTER_S, DevicePresence, OtherUsersSeen
from parallel_hpo.session.decide.decide import decide
from parallel_hpo.session.decide.demand import needs
from parallel_hpo.session.decide.events import (
    AwaitDevice,
    Died,
    DrainAsked,
    Opened,
    PoolAnswered,
    RecordQuarantine,
    ScaleAsked,
    Send,
    Spawn,
    StopAsked,
    TimePassed,
)
from parallel_hpo.session.decide.state import Limits, is_finished, next_deadline, open_view
from tests.session.decide.plays import CountedPlay

OOM = "OutOfMemoryError: CUDA out of memory."
ECC = "RuntimeError: CUDA error: uncorrectable ECC error encountered"
WHO = "process 7 computes on it"


class Play(CountedPlay):
    """A sweep of 100 runs with one worker per device."""

    def __init__(self, *devices: str, workers_per_device: int = 1, count: int = 100, **known: Any) -> None:
        self.begun = 0
        limits = Limits(workers_per_device=workers_per_device)
        view = open_view(limits, len(devices) * workers_per_device, devices=devices, **known)
        super().__init__(view, count)
        self.open()

    def begin(self, slot: int) -> RunId:
        """Let a worker start a new run."""
        self.begun += 1
        self.start(slot, f"run{self.begun}")
        return RunId(f"run{self.begun}")

    def begin_again(self, slot: int, order: Rerun) -> None:
        """Let a worker start the run that it was ordered to run again."""
        self.start(slot, order.run_id, order.attempt)

    def run(self, slot: int, outcome: Outcome, reason: str = "") -> None:
        """Let a worker perform one run."""
        self.begin(slot)
        self.end(slot, outcome, reason=reason)

    def fail_until_held(self, slot: int) -> None:
        for _ in range(FAILURES_IN_A_ROW):
            self.run(slot, Outcome.FAILED, "ValueError: no good")

    def die(self, slot: int, cause: str = "exit 0", *, clear: bool = True) -> None:
        self.event(Died(Slot(slot), cause))
        if clear:
            self.event(DeviceClear(Slot(slot)))

    def state(self, slot: int) -> SlotState:
        return self.view.slots[slot].state


@pytest.mark.parametrize(
    ("held_by", "words"),
    [
        ("", []),
        ("process 7 (10 MB)", ["device 3 is used again although process 7 (10 MB) still holds memory on it"]),
    ],
)
def test_a_replacement_starts_only_after_the_wait_for_the_dead_workers_device(
    held_by: str, words: list[str]
) -> None:
    play = Play("3", "5")
    play.begin(0)
    play.die(0, "SIGKILL", clear=False)
    assert play.did(AwaitDevice(Slot(0)))
    assert not play.did(Spawn(Slot(0)))
    play.event(DeviceClear(Slot(0), held_by=held_by))
    assert play.did(Spawn(Slot(0)))
    assert play.words() == words


def test_a_stop_during_the_wait_for_a_device_ends_the_sweep() -> None:
    play = Play("3")
    play.begin(0)
    play.die(0, "SIGKILL", clear=False)
    play.event(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
    assert is_finished(play.view)
    play.event(DeviceClear(Slot(0), held_by="process 7"))
    assert play.actions == ()


@pytest.mark.parametrize(
    "end",
    [
        {"outcome": Outcome.FAILED, "reason": OOM},
        {"outcome": Outcome.FINISHED, "value": 1.0, "reuse_problem": "its run left processes: sleep (7)"},
    ],
    ids=["out of memory", "left processes"],
)
def test_a_worker_whose_process_cannot_be_reused_is_replaced_at_once(end: dict[str, Any]) -> None:
    play = Play("3", "5")
    play.begin(0)
    play.end(0, **end)
    assert play.did(Send(Slot(0), Drain()))
    assert play.view.slots[0].kill_at is not None
    play.die(0)
    assert play.did(Spawn(Slot(0)))
    assert play.view.slots[0].restarts == ()


def test_an_ordinary_failure_keeps_the_worker_running() -> None:
    play = Play("3", "5")
    play.run(0, Outcome.FAILED, "ValueError: no good")
    assert play.state(0) is SlotState.RUNNING


def test_a_device_on_which_runs_keep_failing_is_quarantined_and_the_other_goes_on() -> None:
    play = Play("3", "5")
    play.fail_until_held(0)
    assert play.did(Send(Slot(0), Drain()))
    assert play.words()[0].startswith(
        "device 3 gets no runs for 300 s: runs fail on it (ValueError: no good)"
    )
    assert play.did(RecordQuarantine("3", "ValueError: no good"))
    play.die(0)
    assert not play.did(Spawn(Slot(0)))
    assert play.view.slots[0].spawn_at == QUARANTINE_S
    assert play.state(1) is SlotState.RUNNING


@pytest.mark.parametrize("outcome", [Outcome.FINISHED, Outcome.FAILED])
def test_one_run_is_tried_after_a_quarantine_and_ends_or_doubles_it(outcome: Outcome) -> None:
    play = Play("3", "5")
    play.fail_until_held(0)
    play.die(0)
    play.now = QUARANTINE_S
    play.event(TimePassed())
    assert play.did(Spawn(Slot(0)))
    play.ready(0)
    assert play.did(Send(Slot(0), Lease(1)))
    play.run(0, outcome, "" if outcome is Outcome.FINISHED else "ValueError: no good")
    if outcome is Outcome.FINISHED:
        assert play.words() == ["device 3 is out of quarantine: a run has finished on it"]
        play.back(0)
        (lease,) = play.orders(0)
        assert isinstance(lease, Lease) and lease.count is not None and lease.count > 1
    else:
        assert play.did(RecordQuarantine("3", "ValueError: no good"))
        play.die(0)
        assert not play.did(Spawn(Slot(0)))
        assert play.view.slots[0].spawn_at == QUARANTINE_S + 2 * QUARANTINE_S


def test_an_uncorrectable_error_quarantines_a_device_at_once_unless_it_is_the_only_one() -> None:
    play = Play("3", "5")
    play.run(0, Outcome.FAILED, ECC)
    play.die(0)
    assert play.view.slots[0].spawn_at == QUARANTINE_S
    sole = Play("3")
    sole.run(0, Outcome.FAILED, ECC)
    sole.die(0)
    assert sole.did(Spawn(Slot(0)))


def test_a_device_on_which_workers_keep_dying_is_quarantined() -> None:
    play = Play("3", "5")
    for _ in range(FAILURES_IN_A_ROW):
        play.begin(0)
        play.die(0, "SIGSEGV")
        if play.state(0) is SlotState.BACKOFF:  # it waits before its second restart
            at = next_deadline(play.view)
            assert at is not None
            play.now = min(at, 60.0)
            play.event(TimePassed())
        if play.state(0) is SlotState.STARTING:
            play.ready(0)
    assert play.state(0) is SlotState.BACKOFF
    assert play.view.slots[0].spawn_at == play.view.health.of("3").held_until


def test_an_active_run_on_a_quarantined_device_may_finish() -> None:
    play = Play("3", "5", workers_per_device=2)
    play.begin(2)
    play.fail_until_held(0)
    assert play.did(Send(Slot(2), Drain()))
    assert play.view.slots[2].kill_at is None
    play.end(2, Outcome.STOPPED)
    assert play.view.slots[2].kill_at is not None


def test_a_shared_device_on_probation_gets_one_worker() -> None:
    play = Play("3", "5", workers_per_device=2)
    play.fail_until_held(0)
    play.die(0)
    play.die(2)
    play.now = QUARANTINE_S
    play.event(TimePassed())
    assert play.did(Spawn(Slot(0)))
    assert not play.did(Spawn(Slot(2)))


def test_a_worker_that_becomes_ready_on_a_quarantined_device_gets_no_lease() -> None:
    play = Play("3", "5", workers_per_device=2)
    play.begin(2)
    play.die(2, "SIGKILL")
    assert play.state(2) is SlotState.STARTING
    play.run(0, Outcome.FAILED, ECC)
    play.ready(2)
    assert play.did(Send(Slot(2), Drain()))


def test_additional_workers_go_to_the_least_used_devices_up_to_their_capacity() -> None:
    play = Play("3", "5", workers_per_device=2)
    assert [slot.device for slot in play.view.slots] == ["3", "5", "3", "5"]
    play.event(ScaleAsked(3))
    play.die(3)
    play.event(ScaleAsked(9))
    assert [slot.device for slot in play.view.slots] == ["3", "5", "3", "5", "5"]
    assert "the devices take no more than 4 workers" in play.words()[-1]


# --- other users ----------------------------------------------------------------------


def come(play: Play, *devices: str) -> None:
    play.event(OtherUsersSeen(dict.fromkeys(devices, WHO)))


def let_go(play: Play) -> None:
    """See no other user for long enough."""
    come(play)
    at = next_deadline(play.view)
    assert at == play.now + FREE_AFTER_S
    play.now = at
    play.event(TimePassed())


def spawned(play: CountedPlay) -> list[int]:
    return [action.slot for action in play.actions if isinstance(action, Spawn)]


def test_runs_finish_and_none_start_while_another_user_is_on_the_device() -> None:
    play = Play("0", "1")
    play.begin(0)
    come(play, "0")
    assert Send(Slot(0), Drain()) in play.actions
    assert play.words() == [f"device 0 gets no run while {WHO}; what runs on it may finish"]
    assert play.view.slots[0].kill_at is None, "its run has all the time that it needs"
    play.die(0)
    assert play.view.slots[0].state is SlotState.STOPPED
    assert spawned(play) == []
    let_go(play)
    assert spawned(play) == [0]
    assert play.words() == ["device 0 is free again, and gets runs"]
    assert play.view.presence == DevicePresence()


def test_a_device_that_is_never_freed_is_not_used_again_and_the_count_stays_exact() -> None:
    play = Play("0", "1")
    come(play, "0")
    play.die(0)
    while play.view.ending is None:
        play.run(1, Outcome.FINISHED)
        play.back(1)
    assert (play.begun, play.view.ending.exit_code) == (100, ExitCode.COMPLETE)
    assert play.view.slots[0].is_terminal


def test_a_sweep_without_a_free_device_waits_until_one_is_free_or_it_is_stopped() -> None:
    play = Play("0", "1")
    come(play, "0", "1")
    play.die(0, clear=False)
    assert play.did(AwaitDevice(Slot(0))), "what a dead worker held is waited for as ever"
    play.event(DeviceClear(Slot(0)))
    play.die(1)
    assert play.view.ending is None
    assert next_deadline(play.view) is None
    stopped = decide(play.view, StopAsked(StopKind.INTERRUPT, "SIGINT", 130), play.now).view
    assert is_finished(stopped)
    let_go(play)
    assert spawned(play) == [0, 1]


def test_a_worker_that_becomes_ready_on_a_device_in_use_by_others_gets_no_lease() -> None:
    play = Play("0", "1")
    play.die(0, "SIGKILL")
    come(play, "0")
    assert play.state(0) is SlotState.STARTING
    play.ready(0)
    assert not [a for a in play.actions if isinstance(a, Send) and isinstance(a.order, Lease)]
    assert play.state(0) is SlotState.STOPPING


def test_a_new_sweep_starts_no_worker_on_a_device_in_use_by_another_user() -> None:
    there = DevicePresence({"1": "the session of ada is active"})
    play = CountedPlay(open_view(Limits(), 2, devices=("0", "1"), presence=there), count=5)
    play.event(Opened())
    assert spawned(play) == [0]
    assert play.words() == ["device 1 gets no run while the session of ada is active"]


def test_workers_without_devices_also_make_room_for_other_users() -> None:
    play = Play("")
    come(play, "")
    assert play.words() == [f"this machine gets no run while {WHO}; what runs on it may finish"]
    play.event(Died(Slot(0), "exit 0"))
    assert spawned(play) == []
    let_go(play)
    assert spawned(play) == [0]


def test_a_quarantine_and_the_presence_of_other_users_end_independently() -> None:
    play = Play("0", "1")
    play.run(1, Outcome.FINISHED)
    play.fail_until_held(0)
    come(play, "0")
    play.die(0)
    let_go(play)
    assert spawned(play) == [], "it is in quarantine still"
    come(play, "0")
    play.now += 10_000
    play.event(TimePassed())
    assert spawned(play) == [], "another user is there still"


def test_a_device_is_not_quarantined_while_all_other_devices_are_in_use_by_others() -> None:
    play = Play("0", "1")
    play.run(1, Outcome.FINISHED)
    come(play, "1")
    play.die(1)
    play.fail_until_held(0)
    assert not play.view.health.is_quarantined("0", play.now)


def test_a_drained_worker_stays_drained_when_its_device_is_free_again() -> None:
    play = Play("0", "1")
    come(play, "0")
    play.die(0)
    play.event(DrainAsked(Slot(0)))
    let_go(play)
    assert play.view.slots[0].is_terminal
    assert spawned(play) == []


def test_a_machine_requests_no_runs_for_devices_in_use_by_others() -> None:
    view = decide(open_view(Limits(), 2, devices=("0", "1")), Opened(), 0.0).view
    assert needs(view).wants == 2
    view = decide(view, OtherUsersSeen({"0": WHO}), 0.0).view
    assert needs(view).wants == 1
    assert Spawn(Slot(1)) in decide(view, PoolAnswered(Granted(granted=1)), 0.0).actions
