"""What runs and deaths mean for a slot's device and for who starts on it next: pure, a part of `decide`."""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.config.devices import FaultAction
from parallel_hpo.supervisor.actions import AwaitDevice
from parallel_hpo.supervisor.devices.faults import find_action
from parallel_hpo.supervisor.devices.health import note_run
from parallel_hpo.supervisor.events import DeviceClear
from parallel_hpo.supervisor.step import Step
from parallel_hpo.supervisor.view import SlotView
from parallel_hpo.words import Message, Outcome, Slot, SlotState


def after_run(step: Step, slot: Slot, outcome: Outcome, reason: str) -> None:
    """Note how a run went on its device; replace the worker where the failure asks for it."""
    failed = outcome is Outcome.FAILED
    action = find_action(reason, step.view.limits.faults) if failed else FaultAction.KEEP
    if step.slot(slot).device:
        _note_run(step, step.slot(slot).device, outcome, reason, faulty=action is FaultAction.QUARANTINE)
    if action is not FaultAction.KEEP and step.slot(slot).state is SlotState.RUNNING:
        step.replace_worker(step.slot(slot), f"replaced after {reason}")


def after_death(step: Step, slot: SlotView) -> None:
    """Let a slot's next worker wait for what the last one held, and for the end of a quarantine."""
    if slot.device and step.view.ending is None and not slot.over:
        step.change(slot.slot, soiled=True)
        step.actions.append(AwaitDevice(slot.slot))
        _wait_for_quarantine(step, step.slot(slot.slot))


def on_clear(step: Step, event: DeviceClear) -> None:
    """Let the slot's next worker start."""
    step.change(event.slot, soiled=False)
    if event.held_by and step.view.ending is None:
        device = step.slot(event.slot).device
        words = f"device {device} is handed on although memory is still held on it by {event.held_by}"
        step.tell(Message(words, warning=True))


def may_start(step: Step, slot: SlotView) -> bool:
    """Whether a worker may start on the slot's device: one at a time where it is on probation."""
    if slot.soiled:
        return False
    if not slot.device or not step.view.health.is_on_probation(slot.device, step.now):
        return True
    return not any(other.alive for other in step.view.slots if other.device == slot.device)


def is_resting(step: Step, slot: SlotView) -> bool:
    """Whether the slot's device is in quarantine."""
    return bool(slot.device) and step.view.health.is_held(slot.device, step.now)


def longest_lease(step: Step, slot: SlotView) -> int | None:
    """How many runs a worker there may be given at a time; None: any number."""
    on_probation = bool(slot.device) and step.view.health.is_on_probation(slot.device, step.now)
    return 1 if on_probation else None


def _note_run(step: Step, device: str, outcome: Outcome, reason: str, *, faulty: bool) -> None:
    before = step.view.health
    others = {slot.device for slot in step.view.slots if slot.device != device and not slot.over}
    after = note_run(before, device, outcome, others=frozenset(others), now=step.now, faulty=faulty)
    step.view = replace(step.view, health=after)
    if after.is_held(device, step.now) and not before.is_held(device, step.now):
        _rest(step, device, reason)
    elif before.of(device).held_until is not None and after.of(device).held_until is None:
        step.tell(Message(f"device {device} is out of quarantine: a run has finished on it"))


def _rest(step: Step, device: str, reason: str) -> None:
    """Take a device out of use: what runs on it may finish, nothing more starts until it is to be tried."""
    until = step.view.health.of(device).held_until or step.now
    words = f"device {device} gets no runs for {until - step.now:.0f} s: runs fail on it ({reason}), while"
    step.tell(Message(f"{words} others do well; then one run is tried on it", warning=True))
    for slot in step.view.slots:
        if slot.device == device and slot.state is SlotState.RUNNING:
            step.replace_worker(slot, "its device is in quarantine")
        elif slot.device == device and slot.state in (SlotState.STOPPED, SlotState.BACKOFF):
            _wait_for_quarantine(step, slot)


def _wait_for_quarantine(step: Step, slot: SlotView) -> None:
    until = step.view.health.of(slot.device).held_until
    if until is not None and until > step.now:
        step.change(slot.slot, spawn_at=max(until, slot.spawn_at or until))
