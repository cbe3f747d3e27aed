"""Devices: quarantine, other users, the number of workers on each. Pure, a part of `decide`.

While another user is on a device, active runs may finish there, and no run starts until it is free again.
A run that ran out of memory beside others (`OpenRun.exclusive_on`) is run again alone: workers on its device
finish their runs and leave first.
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
    note_free,
    note_users,
)
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import AwaitDevice, Kill, RecordQuarantine, Send
from parallel_hpo.session.decide.state import Move, OpenRun, SlotView, SweepView


def after_run(draft: Draft, slot: Slot, outcome: Outcome, reason: str) -> None:
    """Note a run's outcome on its device; replace the worker if the failure asks for it."""
    failed = outcome is Outcome.FAILED
    action = find_action(reason, draft.view.limits.faults) if failed else FaultAction.KEEP
    if draft.slot(slot).device:
        _note_run(draft, draft.slot(slot).device, outcome, reason, faulty=action is FaultAction.QUARANTINE)
    if action is not FaultAction.KEEP and draft.slot(slot).state is SlotState.RUNNING:
        draft.replace_worker(draft.slot(slot), f"replaced after {reason}")


def after_death(draft: Draft, slot: SlotView) -> None:
    """Delay a slot's next worker until the last one's memory is free and the quarantine has ended."""
    if slot.device and draft.view.ending is None and not slot.is_terminal:
        draft.change(slot.slot, memory_not_released=True)
        draft.actions.append(AwaitDevice(slot.slot))
        _wait_for_quarantine(draft, draft.slot(slot.slot))


def on_clear(draft: Draft, event: DeviceClear) -> None:
    """Let the slot's next worker start."""
    draft.change(event.slot, memory_not_released=False)
    if event.held_by and draft.view.ending is None:
        device = draft.slot(event.slot).device
        words = f"device {device} is used again although {event.held_by} still holds memory on it"
        draft.notify(Message(words, warning=True))


def may_start(draft: Draft, slot: SlotView) -> bool:
    """Return whether a worker may start on the slot's device: one at a time while it is on probation."""
    if slot.memory_not_released:
        return False
    if not slot.device or not draft.view.health.is_on_probation(slot.device, draft.now):
        return True
    return not any(other.alive for other in draft.view.slots if other.device == slot.device)


def is_quarantined(draft: Draft, slot: SlotView) -> bool:
    """Return whether the slot's device is in quarantine."""
    return bool(slot.device) and draft.view.health.is_quarantined(slot.device, draft.now)


def longest_lease(draft: Draft, slot: SlotView) -> int | None:
    """Return the longest lease of a worker on the slot's device; None: any."""
    occupancy = draft.view.occupancy
    if occupancy is not None and slot.device and not occupancy.of(slot.device).is_measured:
        return 1  # other workers may soon share the device
    on_probation = bool(slot.device) and draft.view.health.is_on_probation(slot.device, draft.now)
    return 1 if on_probation else None


def _note_run(draft: Draft, device: str, outcome: Outcome, reason: str, *, faulty: bool) -> None:
    before = draft.view.health
    here = [slot for slot in draft.view.slots if not slot.is_terminal and not is_in_use(draft, slot)]
    others = {slot.device for slot in here if slot.device != device}
    after = note_run(before, device, outcome, others=frozenset(others), now=draft.now, faulty=faulty)
    draft.view = replace(draft.view, health=after)
    if after.is_quarantined(device, draft.now) and not before.is_quarantined(device, draft.now):
        _quarantine(draft, device, reason)
    elif before.of(device).held_until is not None and after.of(device).held_until is None:
        draft.notify(Message(f"device {device} is out of quarantine: a run has finished on it"))


def _quarantine(draft: Draft, device: str, reason: str) -> None:
    """Quarantine a device: active runs may finish, and no run starts until the trial run."""
    until = draft.view.health.of(device).held_until or draft.now
    draft.actions.append(RecordQuarantine(device, reason))
    words = f"device {device} gets no runs for {until - draft.now:.0f} s: runs fail on it ({reason}), while"
    draft.notify(Message(f"{words} others do well; then one run is tried on it", warning=True))
    for slot in draft.view.slots:
        if slot.device == device and slot.state is SlotState.RUNNING:
            draft.replace_worker(slot, "its device is in quarantine")
        elif slot.device == device and slot.state in (SlotState.STOPPED, SlotState.BACKOFF):
            _wait_for_quarantine(draft, slot)


def _wait_for_quarantine(draft: Draft, slot: SlotView) -> None:
    until = draft.view.health.of(slot.device).held_until
    if until is not None and until > draft.now:
        draft.change(slot.slot, spawn_at=max(until, slot.spawn_at or until))


def on_other_users_seen(draft: Draft, event: OtherUsersSeen) -> None:
    """Leave the devices on which another user is seen; use the others again after a while."""
    before = draft.view.presence
    draft.view = replace(draft.view, presence=note_users(before, event.seen, draft.now))
    for device, who in event.seen.items():
        if device not in before.in_use:
            _leave(draft, device, who)


def announce_other_users(draft: Draft) -> None:
    """Notify the user which devices are not used at the start."""
    for device, who in draft.view.presence.in_use.items():
        draft.notify(Message(f"{_called(device)} gets no run while {who}"))


def use_free_devices(draft: Draft) -> None:
    """Use devices again on which no other user was seen for long enough."""
    before = draft.view.presence
    draft.view = replace(draft.view, presence=note_free(before, draft.now))
    for device in before.in_use.keys() - draft.view.presence.in_use.keys():
        draft.notify(Message(f"{_called(device)} is free again, and gets runs"))


def is_in_use(draft: Draft, slot: SlotView) -> bool:
    """Return whether another user has the slot's device."""
    return slot.device in draft.view.presence.in_use


def _leave(draft: Draft, device: str, who: str) -> None:
    draft.notify(Message(f"{_called(device)} gets no run while {who}; what runs on it may finish"))
    for slot in draft.view.slots:
        if slot.device == device and slot.state is SlotState.RUNNING:
            draft.replace_worker(slot, "its device is left to its owner")


def _called(device: str) -> str:
    return f"device {device}" if device else "this machine"


def scale(draft: Draft, workers: int) -> None:
    """Add slots, or drain the highest ones, until `workers` stay."""
    staying = [slot for slot in draft.view.slots if stays(slot)]
    for slot in reversed(staying[workers:]):
        drain(draft, slot.slot)
    if draft.view.occupancy is not None:
        draft.view = replace(draft.view, occupancy=replace(draft.view.occupancy, most=workers))
    places = free_places(draft, staying[:workers], workers - len(staying))
    add_slots(draft, places)
    reached = min(workers, len(staying) + len(places))
    draft.notify(Message(f"scaled from {len(staying)} to {reached} workers"))
    if reached < workers:
        so_far = "" if draft.view.occupancy is None else ", as far as their memory was measured"
        words = f"the devices take no more than {reached} workers at this hpo.workers_per_device{so_far}"
        draft.notify(Message(words, warning=True))


def free_places(draft: Draft, staying: list[SlotView], more: int) -> list[str]:
    """Return devices for `more` new slots, least used first; fewer if the devices are full."""
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
    """Drain a worker at the user's request, and lower the maximum so that `fill` adds no other."""
    drain(draft, number)
    if draft.view.occupancy is not None:
        most = sum(1 for slot in draft.view.slots if stays(slot))
        draft.view = replace(draft.view, occupancy=replace(draft.view.occupancy, most=most))


def drain(draft: Draft, number: Slot) -> None:
    """Let a slot's worker finish its run and leave for good; the rest of its lease goes to other workers."""
    if number >= len(draft.view.slots) or not stays(draft.slot(number)):
        draft.notify(Message(f"w{number} can't be drained: there is no such worker", warning=True))
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
    """Return whether a slot continues: it is neither gone for good nor leaving."""
    return not slot.is_terminal and (slot.state is not SlotState.STOPPING or slot.replacing)


# --- workers on a device ----------------------------------------------------------------


def on_memory(draft: Draft, seen: DeviceMemorySeen) -> None:
    """Note a worker's memory; if it is more than expected, fewer workers may share its device."""
    device = draft.slot(seen.slot).device
    if draft.view.occupancy is not None and device:
        _note(draft, device, draft.view.occupancy.seen(device, seen))


def note_measured_run(draft: Draft, slot: SlotView, outcome: Outcome) -> None:
    """Note a fully measured run; a failed one may have ended before its peak of memory."""
    before = draft.view.occupancy
    if before is None or not slot.device or outcome is Outcome.FAILED:
        return
    was_measured = before.of(slot.device).is_measured
    _note(draft, slot.device, before.run_measured(slot.device))
    fill = _occupancy(draft).of(slot.device)
    if fill.is_measured and not was_measured:
        draft.notify(_on_measured(slot.device, fill))


def fill(draft: Draft) -> None:
    """Add slots on devices with room for more workers; processes start in them as there is work."""
    occupancy = draft.view.occupancy
    if occupancy is None or draft.view.ending is not None:
        return
    staying = [slot for slot in draft.view.slots if stays(slot)]
    more = occupancy.most - len(staying)
    places = free_places(draft, staying, more)
    add_slots(draft, [device for device in places if not draft.view.health.is_quarantined(device, draft.now)])


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
            f"device {device} keeps one worker: the memory that workers hold there can't be measured"
            " (the driver lists none of their processes, as in some containers);"
            " give hpo.workers_per_device a number"
        )
        return Message(words, warning=True)
    held = f"{fill.peak.used_mb:.0f} of {fill.peak.room_mb:.0f} MB"
    return Message(f"device {device} takes {fill.fits} workers at a time: its first runs held {held}")


# --- too little memory ------------------------------------------------------------------


def ran_out_of_shared_memory(draft: Draft, slot: SlotView, outcome: Outcome, reason: str) -> bool:
    """Return whether a run failed because it ran out of memory on a shared device."""
    if draft.view.occupancy is None or outcome is not Outcome.FAILED or not is_out_of_memory(reason):
        return False
    return bool(_others_alive(draft, slot))


def after_shortage(draft: Draft, slot: SlotView, reason: str) -> None:
    """Let one worker less share the device, and empty it for the run that needs it exclusively."""
    device, together = slot.device, len(_others_alive(draft, slot)) + 1
    _note(draft, device, _occupancy(draft).shrink(device, together))
    words = f"a run found too little memory on device {device} as one of {together} workers ({reason})"
    left = _occupancy(draft).of(device).fits
    draft.notify(
        Message(f"{words}: it runs again alone, then {left} at a time share the device", warning=True)
    )
    for other in draft.view.slots:
        if other.device == device and other.state is SlotState.RUNNING:
            draft.replace_worker(other, "a run is run again alone on its device")


def next_rerun(draft: Draft, slot: SlotView) -> OpenRun | None:
    """Return the waiting run that an idle worker gets next."""
    waiting = draft.view.reruns
    lone = [run for run in waiting if run.exclusive_on == slot.device and slot.device]
    if lone and not _is_stranded(draft, slot.device):
        return lone[0] if _has_device_alone(draft, slot) else None
    return next(
        (run for run in waiting if not run.exclusive_on or _is_stranded(draft, run.exclusive_on)), None
    )


def is_exclusive(draft: Draft, slot: SlotView) -> bool:
    """Return whether the slot's device belongs, now or soon, to one run alone."""
    return bool(slot.device) and _has_lone_run(draft, slot.device)


def must_make_room(draft: Draft, slot: SlotView) -> bool:
    """Return whether a slot must have no worker, for the sake of another slot's exclusive run."""
    return is_exclusive(draft, slot) and slot.slot != _exclusive_slot(draft.view, slot.device)


def fits_on_device(draft: Draft, slot: SlotView) -> bool:
    """Return whether a worker may start in a slot, given the others on its device."""
    if not is_exclusive(draft, slot):
        return True
    return not must_make_room(draft, slot) and _has_device_alone(draft, slot)


def _has_lone_run(draft: Draft, device: str) -> bool:
    view = draft.view
    if any(run.exclusive_on == device for slot in view.slots for run in slot.held):
        return True
    return any(run.exclusive_on == device for run in view.reruns) and not _is_stranded(draft, device)


def _exclusive_slot(view: SweepView, device: str) -> int | None:
    """Return the slot that has, or will have, the device exclusively."""
    staying = [slot for slot in view.slots if slot.device == device and stays(slot)]
    at_it = (slot.slot for slot in staying for run in slot.held if run.exclusive_on == device)
    return next(at_it, staying[0].slot if staying else None)


def _others(draft: Draft, slot: SlotView) -> list[SlotView]:
    """Return the other slots on a slot's device."""
    slots = draft.view.slots
    return [other for other in slots if other.device == slot.device and other.slot != slot.slot]


def _has_device_alone(draft: Draft, slot: SlotView) -> bool:
    """Return whether no other slot has a process or unreleased memory on the device."""
    return not any(other.alive or other.memory_not_released for other in _others(draft, slot))


def _others_alive(draft: Draft, slot: SlotView) -> list[SlotView]:
    return [other for other in _others(draft, slot) if other.alive]


def _is_stranded(draft: Draft, device: str) -> bool:
    """Return whether the device is unavailable, so its exclusive run may go to any worker."""
    staying = any(slot.device == device and stays(slot) for slot in draft.view.slots)
    return not staying or _takes_no_runs(draft, device)


def _takes_no_runs(draft: Draft, device: str) -> bool:
    """Return whether a device gets no runs: it is in quarantine, or another user has it."""
    return draft.view.health.is_quarantined(device, draft.now) or device in draft.view.presence.in_use
