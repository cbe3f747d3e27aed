"""What runs, deaths and owners mean for a slot's device and who starts on it next: pure, a part of `decide`.

What runs on a device whose owner came back may finish; nothing starts on it until nobody else is there.

More or fewer workers on a running sweep: pure, a part of `decide`.

Devices that are shared by as many workers as their memory holds: pure, a part of `decide`.

A run that found too little memory beside others is run again alone: its device is emptied for it, workers
that are at a run there finishing that first. `OpenRun.alone_on` says so of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from parallel_hpo.config.tables import FaultAction
from parallel_hpo.core.messages import Drain
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Outcome, Slot, SlotState
from parallel_hpo.devices.health import DeviceClear, find_action, is_out_of_memory, note_run
from parallel_hpo.devices.sharing import (
    DeviceMemorySeen,
    DeviceOccupancy,
    Occupancy,
    OtherUsersSeen,
    come_back,
    look_again,
)
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import AwaitDevice, Kill, RecordQuarantine, Send
from parallel_hpo.session.decide.state import OpenRun, SlotView, SweepView
from parallel_hpo.session.decide.transitions import Move


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


def on_owners_seen(draft: Draft, event: OtherUsersSeen) -> None:
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


def scale(draft: Draft, workers: int) -> None:
    """Add slots, or let the highest finish their runs and leave, until `workers` stay."""
    staying = [slot for slot in draft.view.slots if stays(slot)]
    for slot in reversed(staying[workers:]):
        drain(draft, slot.slot)
    if draft.view.occupancy is not None:
        draft.view = replace(draft.view, occupancy=replace(draft.view.occupancy, most=workers))
    places = free_places(draft, staying[:workers], workers - len(staying))
    add_slots(draft, places)
    reached = min(workers, len(staying) + len(places))
    draft.tell(Message(f"scaled from {len(staying)} to {reached} workers"))
    if reached < workers:
        so_far = "" if draft.view.occupancy is None else ", as far as their memory was measured"
        words = f"the devices take no more than {reached} workers at this hpo.workers_per_device{so_far}"
        draft.tell(Message(words, warning=True))


def free_places(draft: Draft, staying: list[SlotView], more: int) -> list[str]:
    """Return the devices of so many new slots, the least used first; fewer where the devices are full."""
    if not draft.view.devices:
        return [""] * max(0, more)
    used = Counter(slot.device for slot in staying)
    takes = {device: workers_on(draft, device) for device in draft.view.devices}
    rounds = range(max(takes.values()))
    free = [device for number in rounds for device in takes if used[device] <= number < takes[device]]
    return free[: max(0, more)]


def workers_on(draft: Draft, device: str) -> int:
    """Return how many workers may share a device."""
    occupancy = draft.view.occupancy
    return draft.view.limits.workers_per_device if occupancy is None else occupancy.of(device).fits


def add_slots(draft: Draft, devices: Iterable[str]) -> None:
    """Add a slot on each of these devices."""
    first = len(draft.view.slots)
    new = (SlotView(slot=Slot(first + more), device=device) for more, device in enumerate(devices))
    draft.view = replace(draft.view, slots=(*draft.view.slots, *new))


def drain_asked(draft: Draft, number: Slot) -> None:
    """Drain a worker that somebody wants gone: nor is another put in its place where devices are filled."""
    drain(draft, number)
    if draft.view.occupancy is not None:
        most = sum(1 for slot in draft.view.slots if stays(slot))
        draft.view = replace(draft.view, occupancy=replace(draft.view.occupancy, most=most))


def drain(draft: Draft, number: Slot) -> None:
    """Let a slot's worker finish its run and leave for good; what it had leased goes to the others."""
    if number >= len(draft.view.slots) or not stays(draft.slot(number)):
        draft.tell(Message(f"w{number} can't be drained: there is no such worker", warning=True))
        return
    slot = draft.slot(number)
    draft.change(number, lease_left=0, spawn_at=None, replacing=False)
    draft.move(number, Move.LEAVE, "drained")
    if slot.state is SlotState.STARTING:
        draft.actions.append(Kill(number))
    elif slot.alive:
        draft.actions.append(Send(number, Drain()))
        if slot.run is None:
            draft.change(number, kill_at=draft.now + draft.view.limits.grace_s)


def stays(slot: SlotView) -> bool:
    """Whether a slot is to go on: neither gone for good nor about to be."""
    return not slot.over and (slot.state is not SlotState.STOPPING or slot.replacing)


# --- how many there are -----------------------------------------------------------------


def on_memory(draft: Draft, seen: DeviceMemorySeen) -> None:
    """Note what a worker holds; where it is more than what was reckoned with, fewer may share its device."""
    device = draft.slot(seen.slot).device
    if draft.view.occupancy is not None and device:
        _note(draft, device, draft.view.occupancy.seen(device, seen))


def note_measured_run(draft: Draft, slot: SlotView, outcome: Outcome) -> None:
    """Note that a run was measured to its end; one that failed may not have come to hold what it needs."""
    before = draft.view.occupancy
    if before is None or not slot.device or outcome is Outcome.FAILED:
        return
    was_measured = before.of(slot.device).is_measured
    _note(draft, slot.device, before.performed(slot.device))
    fill = _occupancy(draft).of(slot.device)
    if fill.is_measured and not was_measured:
        draft.tell(_on_measured(slot.device, fill))


def fill(draft: Draft) -> None:
    """Add slots on devices that hold more workers, while there is work for them."""
    occupancy = draft.view.occupancy
    if occupancy is None or draft.view.ending is not None:
        return
    staying = [slot for slot in draft.view.slots if stays(slot)]
    more = occupancy.most - len(staying)
    if draft.view.grant is None:
        more = min(more, draft.work() - sum(1 for slot in staying if _is_idle(slot)))
    places = free_places(draft, staying, more)
    add_slots(draft, [device for device in places if not draft.view.health.is_quarantined(device, draft.now)])


def _is_idle(slot: SlotView) -> bool:
    """Whether a slot will take work next: also one that has not yet said that its lease is at its end."""
    return not slot.held and slot.lease_left == 0


def _note(draft: Draft, device: str, occupancy: Occupancy) -> None:
    draft.view = replace(draft.view, occupancy=occupancy)
    if draft.view.ending is None:
        on_it = [slot for slot in draft.view.slots if slot.device == device and stays(slot)]
        for slot in reversed(on_it[occupancy.of(device).fits :]):
            drain(draft, slot.slot)


def _occupancy(draft: Draft) -> Occupancy:
    assert draft.view.occupancy is not None
    return draft.view.occupancy


def _on_measured(device: str, fill: DeviceOccupancy) -> Message:
    if fill.peak is None:
        words = (
            f"device {device} keeps one worker: what workers hold of its memory can't be measured (no driver"
            " tells of a process of theirs, as in some containers); give hpo.workers_per_device a number"
        )
        return Message(words, warning=True)
    held = f"{fill.peak.used_mb:.0f} of {fill.peak.room_mb:.0f} MB"
    return Message(f"device {device} takes {fill.fits} workers at a time: its first runs held {held}")


# --- too little memory ------------------------------------------------------------------


def fell_short(draft: Draft, slot: SlotView, outcome: Outcome, reason: str) -> bool:
    """Whether a run failed for want of memory on a device that it shared."""
    if draft.view.occupancy is None or outcome is not Outcome.FAILED or not is_out_of_memory(reason):
        return False
    return bool(_others_alive(draft, slot))


def after_shortage(draft: Draft, slot: SlotView, reason: str) -> None:
    """Let one worker less share the device, and empty it for the run that is to have it alone."""
    device, together = slot.device, len(_others_alive(draft, slot)) + 1
    _note(draft, device, _occupancy(draft).fell_short(device, together))
    words = f"a run found too little memory on device {device} as one of {together} workers ({reason})"
    left = _occupancy(draft).of(device).fits
    draft.tell(Message(f"{words}: it is run again alone; {left} at a time share it then", warning=True))
    for other in draft.view.slots:
        if other.device == device and other.state is SlotState.RUNNING:
            draft.replace_worker(other, "a run is run again alone on its device")


def next_rerun(draft: Draft, slot: SlotView) -> OpenRun | None:
    """Return the run that waits for another attempt and that an idle worker is to be given."""
    waiting = draft.view.reruns
    lone = [run for run in waiting if run.alone_on == slot.device and slot.device]
    if lone and not _is_stranded(draft, slot.device):
        return lone[0] if _has_device_alone(draft, slot) else None
    return next((run for run in waiting if not run.alone_on or _is_stranded(draft, run.alone_on)), None)


def is_kept_free(draft: Draft, slot: SlotView) -> bool:
    """Whether a slot gets no new run: its device is, or is to be, one run's alone."""
    return bool(slot.device) and _has_lone_run(draft, slot.device)


def makes_room(draft: Draft, slot: SlotView) -> bool:
    """Whether a slot's worker has to leave, or none may start, for a run that has the device alone."""
    return is_kept_free(draft, slot) and slot.slot != _performer(draft.view, slot.device)


def fits_on_device(draft: Draft, slot: SlotView) -> bool:
    """Whether a worker may start in a slot beside what is on its device."""
    if not is_kept_free(draft, slot):
        return True
    return not makes_room(draft, slot) and _has_device_alone(draft, slot)


def _has_lone_run(draft: Draft, device: str) -> bool:
    view = draft.view
    if any(run.alone_on == device for slot in view.slots for run in slot.held):
        return True
    return any(run.alone_on == device for run in view.reruns) and not _is_stranded(draft, device)


def _performer(view: SweepView, device: str) -> int | None:
    """Return the slot that has, or will have, the device alone."""
    staying = [slot for slot in view.slots if slot.device == device and stays(slot)]
    at_it = (slot.slot for slot in staying for run in slot.held if run.alone_on == device)
    return next(at_it, staying[0].slot if staying else None)


def _others(draft: Draft, slot: SlotView) -> list[SlotView]:
    """Return the other slots on a slot's device."""
    slots = draft.view.slots
    return [other for other in slots if other.device == slot.device and other.slot != slot.slot]


def _has_device_alone(draft: Draft, slot: SlotView) -> bool:
    """Whether no other slot has a process on the device, nor memory that may not be free yet."""
    return not any(other.alive or other.soiled for other in _others(draft, slot))


def _others_alive(draft: Draft, slot: SlotView) -> list[SlotView]:
    return [other for other in _others(draft, slot) if other.alive]


def _is_stranded(draft: Draft, device: str) -> bool:
    """Whether nothing is to be had of a device for a while: its lone run goes where there is a worker."""
    staying = any(slot.device == device and stays(slot) for slot in draft.view.slots)
    return not staying or _takes_no_runs(draft, device)


def _takes_no_runs(draft: Draft, device: str) -> bool:
    """Whether a device gets no runs: it is in quarantine, or left to its owner."""
    return draft.view.health.is_quarantined(device, draft.now) or device in draft.view.presence.away
