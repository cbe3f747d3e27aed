"""Reports of a sweep in which nothing happens or is going to happen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.types import RunId, SlotState
from parallel_hpo.devices.sharing import DevicePresence
from parallel_hpo.session.decide.state import Limits, OpenRun, PendingStart, PoolGrant, SweepView, open_view
from parallel_hpo.session.measuring import STACKS, STILL_S, StallDetector

WAITING = open_view(Limits(), 1)


def with_slot(**changes: Any) -> SweepView:
    """A sweep whose worker is up."""
    slot = replace(WAITING.slots[0], state=SlotState.RUNNING, **changes)
    return replace(WAITING, slots=(slot,))


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


def test_a_stall_is_reported_now_and_then_with_the_supervisors_stacks(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    assert scene.detector.due_in_s(WAITING) == STILL_S
    assert not scene.detector.look(WAITING)
    scene.clock.now = STILL_S
    assert scene.detector.look(WAITING)
    assert not scene.detector.look(WAITING)
    (message,) = scene.told
    assert isinstance(message, Message) and message.warning
    assert "test_a_stall_is_reported" in (tmp_path / STACKS).read_text()


def test_any_event_restarts_the_wait(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.clock.now = STILL_S - 1
    scene.detector.moved()
    assert scene.detector.due_in_s(WAITING) == STILL_S


SLOT = WAITING.slots[0]
RUN = OpenRun(RunId("r"), {}, attempt=1, since=0.0)
ASKED = PendingStart(RUN, new=True, leased=True)
AWAY = replace(WAITING, presence=DevicePresence({"": "the session of ada is active"}))
FINE = {
    "a run may take any time": with_slot(run=RUN),
    "a delayed start is due later": with_slot(spawn_at=1000.0),
    "a start may wait for the pool until the fence": with_slot(busy=True, pending=ASKED),
    "a sweep may wait for its deadline": replace(WAITING, grant=PoolGrant(held="deadline 1h: no run starts")),
    "others may use the devices for any time": AWAY,
}


@pytest.mark.parametrize("view", FINE.values(), ids=FINE)
def test_an_expected_wait_is_no_stall(tmp_path: Path, view: SweepView) -> None:
    assert Scene(tmp_path).detector.due_in_s(view) is None


def test_a_worker_busy_without_a_run_can_stall_even_while_others_use_the_devices(
    tmp_path: Path,
) -> None:
    busy = replace(AWAY, slots=(replace(SLOT, busy=True),))
    assert Scene(tmp_path).detector.due_in_s(busy) == STILL_S
