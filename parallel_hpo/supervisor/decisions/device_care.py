"""What runs, deaths and owners mean for a slot's device and who starts on it next: pure, a part of `decide`.

What runs on a device whose owner came back may finish; nothing starts on it until nobody else is there.
"""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.config.devices import FaultAction
from parallel_hpo.notices import Message
from parallel_hpo.supervisor.decisions.actions import AwaitDevice, RecordQuarantine
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.view import SlotView
from parallel_hpo.supervisor.devices.handover import DeviceClear
from parallel_hpo.supervisor.devices.health import find_action, note_run
from parallel_hpo.supervisor.devices.presence import OwnersSeen, come_back, look_again
from parallel_hpo.words import Outcome, Slot, SlotState


def after_run(draft: Draft, slot: Slot, outcome: Outcome, reason: str) -> None:
    """Note how a run went on its device; replace the worker where the failure asks for it."""
    failed = outcome is Outcome.FAILED
    action = find_action(reason, draft.view.limits.faults) if failed else FaultAction.KEEP
    if draft.slot(slot).device:
        _note_run(draft, draft.slot(slot).device, outcome, reason, faulty=action is FaultAction.QUARANTINE)
    if action is not FaultAction.KEEP and draft.slot(slot).state is SlotState.RUNNING:
        draft.replace_worker(draft.slot(slot), f"replaced after {reason}")


def after_death(draft: Draft, slot: SlotView) -> None:
    """Let a slot's next worker wait for what the last one held, and for the end of a quarantine."""
    if slot.device and draft.view.ending is None and not slot.over:
        draft.change(slot.slot, soiled=True)
        draft.actions.append(AwaitDevice(slot.slot))
        _wait_for_quarantine(draft, draft.slot(slot.slot))


def on_clear(draft: Draft, event: DeviceClear) -> None:
    """Let the slot's next worker start."""
    draft.change(event.slot, soiled=False)
    if event.held_by and draft.view.ending is None:
        device = draft.slot(event.slot).device
        words = f"device {device} is handed on although memory is still held on it by {event.held_by}"
        draft.tell(Message(words, warning=True))


def may_start(draft: Draft, slot: SlotView) -> bool:
    """Whether a worker may start on the slot's device: one at a time where it is on probation."""
    if slot.soiled:
        return False
    if not slot.device or not draft.view.health.is_on_probation(slot.device, draft.now):
        return True
    return not any(other.alive for other in draft.view.slots if other.device == slot.device)


def is_quarantined(draft: Draft, slot: SlotView) -> bool:
    """Whether the slot's device is in quarantine."""
    return bool(slot.device) and draft.view.health.is_quarantined(slot.device, draft.now)


def longest_lease(draft: Draft, slot: SlotView) -> int | None:
    """How many runs a worker there may be given at a time; None: any number."""
    occupancy = draft.view.occupancy
    if occupancy is not None and slot.device and not occupancy.of(slot.device).is_measured:
        return 1  # others may soon work beside it
    on_probation = bool(slot.device) and draft.view.health.is_on_probation(slot.device, draft.now)
    return 1 if on_probation else None


def _note_run(draft: Draft, device: str, outcome: Outcome, reason: str, *, faulty: bool) -> None:
    before = draft.view.health
    here = [slot for slot in draft.view.slots if not slot.over and not is_away(draft, slot)]
    others = {slot.device for slot in here if slot.device != device}
    after = note_run(before, device, outcome, others=frozenset(others), now=draft.now, faulty=faulty)
    draft.view = replace(draft.view, health=after)
    if after.is_quarantined(device, draft.now) and not before.is_quarantined(device, draft.now):
        _rest(draft, device, reason)
    elif before.of(device).held_until is not None and after.of(device).held_until is None:
        draft.tell(Message(f"device {device} is out of quarantine: a run has finished on it"))


def _rest(draft: Draft, device: str, reason: str) -> None:
    """Take a device out of use: what runs on it may finish, nothing more starts until it is to be tried."""
    until = draft.view.health.of(device).held_until or draft.now
    draft.actions.append(RecordQuarantine(device, reason))
    words = f"device {device} gets no runs for {until - draft.now:.0f} s: runs fail on it ({reason}), while"
    draft.tell(Message(f"{words} others do well; then one run is tried on it", warning=True))
    for slot in draft.view.slots:
        if slot.device == device and slot.state is SlotState.RUNNING:
            draft.replace_worker(slot, "its device is in quarantine")
        elif slot.device == device and slot.state in (SlotState.STOPPED, SlotState.BACKOFF):
            _wait_for_quarantine(draft, slot)


def _wait_for_quarantine(draft: Draft, slot: SlotView) -> None:
    until = draft.view.health.of(slot.device).held_until
    if until is not None and until > draft.now:
        draft.change(slot.slot, spawn_at=max(until, slot.spawn_at or until))


def on_owners_seen(draft: Draft, event: OwnersSeen) -> None:
    """Leave the devices on which somebody is seen; the others are joined again after a while."""
    before = draft.view.presence
    draft.view = replace(draft.view, presence=look_again(before, event.seen, draft.now))
    for device, who in event.seen.items():
        if device not in before.away:
            _leave(draft, device, who)


def say_who_is_there(draft: Draft) -> None:
    """Say which devices are not used from the beginning on."""
    for device, who in draft.view.presence.away.items():
        draft.tell(Message(f"{_called(device)} gets no run while {who}"))


def join_again(draft: Draft) -> None:
    """Use the devices again on which nobody was seen for long enough."""
    before = draft.view.presence
    draft.view = replace(draft.view, presence=come_back(before, draft.now))
    for device in before.away.keys() - draft.view.presence.away.keys():
        draft.tell(Message(f"{_called(device)} is free again, and gets runs"))


def is_away(draft: Draft, slot: SlotView) -> bool:
    """Whether the owner of a slot's device has it."""
    return slot.device in draft.view.presence.away


def _leave(draft: Draft, device: str, who: str) -> None:
    draft.tell(Message(f"{_called(device)} gets no run while {who}; what runs on it may finish"))
    for slot in draft.view.slots:
        if slot.device == device and slot.state is SlotState.RUNNING:
            draft.replace_worker(slot, "its device is left to its owner")


def _called(device: str) -> str:
    return f"device {device}" if device else "this machine"
