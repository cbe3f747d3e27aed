"""A sweep in which nothing happens, and nothing will, says so."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.types import RunId, SlotState
from parallel_hpo.devices.sharing import DevicePresence
from parallel_hpo.session.decide.state import Limits, OpenRun, PendingStart, PoolGrant, open_view
from parallel_hpo.session.measuring import STACKS, STILL_S, StallDetector

WAITING = open_view(Limits(), 1)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    folder: Path
    clock: Clock = field(default_factory=Clock)
    told: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.detector = StallDetector(self.clock, self.told.append, self.folder)


def test_it_is_said_once_in_a_while_with_the_stacks_of_the_supervisor(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    assert scene.detector.due_in_s(WAITING) == STILL_S
    assert not scene.detector.look(WAITING)
    scene.clock.now = STILL_S
    assert scene.detector.look(WAITING)
    assert not scene.detector.look(WAITING)
    (message,) = scene.told
    assert isinstance(message, Message) and message.warning
    assert "test_it_is_said_once" in (tmp_path / STACKS).read_text()


def test_whatever_happens_begins_the_wait_anew(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.clock.now = STILL_S - 1
    scene.detector.moved()
    assert scene.detector.due_in_s(WAITING) == STILL_S


def test_a_run_may_take_any_time_and_a_deadline_will_come(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    run = OpenRun(RunId("r"), {}, attempt=1, since=0.0)
    (slot,) = WAITING.slots
    scene.clock.now = STILL_S
    for busy in (replace(slot, run=run), replace(slot, spawn_at=1000.0)):
        assert scene.detector.due_in_s(replace(WAITING, slots=(busy,))) is None


def test_a_start_may_wait_for_the_pool_until_the_fence(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    pending = PendingStart(OpenRun(RunId("r"), {}, attempt=1, since=0.0), new=True, leased=True)
    slot = replace(WAITING.slots[0], state=SlotState.RUNNING, busy=True, pending=pending)
    scene.clock.now = STILL_S
    assert scene.detector.due_in_s(replace(WAITING, slots=(slot,))) is None


def test_a_sweep_in_which_none_may_start_before_its_deadline_may_wait_for_it(tmp_path: Path) -> None:
    held = replace(WAITING, grant=PoolGrant(held="deadline 1h: no run starts that would not end in time"))
    assert Scene(tmp_path).detector.due_in_s(held) is None


def test_owners_may_have_their_devices_for_any_time(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    away = replace(WAITING, presence=DevicePresence({"": "the session of ada is active"}))
    assert scene.detector.due_in_s(away) is None
    (slot,) = WAITING.slots
    assert scene.detector.due_in_s(replace(away, slots=(replace(slot, busy=True),))) == STILL_S
