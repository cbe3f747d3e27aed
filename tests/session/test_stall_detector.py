"""Reports of a sweep in which nothing happens or is going to happen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.types import RunId, SlotState
from parallel_hpo.devices.sharing import DevicePresence
from parallel_hpo.session.decide.state import Limits, OpenRun, PendingStart, PoolGrant, SweepView, open_view
from parallel_hpo.session.measuring import STACKS, STILL_S, StallDetector

WAITING = open_view(Limits(), 1)
ASKED = PendingStart(OpenRun(RunId("r"), {}, attempt=1, since=0.0), new=True, leased=True)
AWAY = replace(WAITING, presence=DevicePresence({"": "the session of ada is active"}))


def with_slot(view: SweepView = WAITING, **changes: Any) -> SweepView:
    return replace(view, slots=(replace(view.slots[0], **changes),))


class Scene:
    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.told: list[Notice] = []
        self.detector = StallDetector(lambda: self.now, self.told.append, folder)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_stall_is_reported_now_and_then_with_the_supervisors_stacks(scene: Scene, tmp_path: Path) -> None:
    assert scene.detector.due_in_s(WAITING) == STILL_S
    assert not scene.detector.look(WAITING)
    scene.now = STILL_S
    assert scene.detector.look(WAITING)
    assert not scene.detector.look(WAITING)
    (message,) = scene.told
    assert isinstance(message, Message) and message.warning
    assert "test_a_stall_is_reported" in (tmp_path / STACKS).read_text()


def test_any_event_restarts_the_wait(scene: Scene) -> None:
    scene.now = STILL_S - 1
    scene.detector.moved()
    assert scene.detector.due_in_s(WAITING) == STILL_S


FINE = {
    "a run may take any time": with_slot(state=SlotState.RUNNING, run=ASKED.run),
    "a delayed start is due later": with_slot(state=SlotState.RUNNING, spawn_at=1000.0),
    "a start may wait for the pool until the fence": with_slot(
        state=SlotState.RUNNING, busy=True, pending=ASKED
    ),
    "a sweep may wait for its deadline": replace(WAITING, grant=PoolGrant(held="deadline 1h: no run starts")),
    "others may use the devices for any time": AWAY,
}


@pytest.mark.parametrize("view", FINE.values(), ids=FINE)
def test_an_expected_wait_is_no_stall(scene: Scene, view: SweepView) -> None:
    assert scene.detector.due_in_s(view) is None


def test_a_busy_worker_without_a_run_can_stall_even_while_others_use_the_devices(scene: Scene) -> None:
    assert scene.detector.due_in_s(with_slot(AWAY, busy=True)) == STILL_S
