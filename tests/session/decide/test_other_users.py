"""Sweeps on two devices that others use now and then, played to `decide` in memory."""

from __future__ import annotations

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import Drain, Lease
from parallel_hpo.core.pool_messages import Granted
from parallel_hpo.core.types import Outcome, Slot, SlotState, StopKind
from parallel_hpo.devices.health import DeviceClear
from parallel_hpo.devices.sharing import FREE_AFTER_S, DevicePresence, OtherUsersSeen
from parallel_hpo.session.decide.decide import decide
from parallel_hpo.session.decide.demand import needs
from parallel_hpo.session.decide.events import (
    AwaitDevice,
    Died,
    DrainAsked,
    Opened,
    PoolAnswered,
    Send,
    Spawn,
    StopAsked,
    TimePassed,
)
from parallel_hpo.session.decide.state import Limits, is_finished, next_deadline, open_view
from tests.session.decide.plays import CountedPlay
from tests.session.decide.test_device_care import Play

WHO = "process 7 computes on it"


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
