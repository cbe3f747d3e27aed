"""Devices that are shared by as many workers as their memory holds: pure, a part of `decide`.

A run that found too little memory beside others is run again alone: its device is emptied for it, workers
that are at a run there finishing that first. `OpenRun.alone_on` says so of it.
"""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.notices import Message
from parallel_hpo.supervisor.decisions import scaling
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.view import OpenRun, SlotView, SweepView
from parallel_hpo.supervisor.devices.health import is_out_of_memory
from parallel_hpo.supervisor.devices.occupancy import DeviceMemorySeen, DeviceOccupancy, Occupancy
from parallel_hpo.words import Outcome, SlotState

# --- how many there are -----------------------------------------------------------------


def on_memory(draft: Draft, seen: DeviceMemorySeen) -> None:
    """Note what a worker holds; where it is more than what was reckoned with, fewer may share its device."""
    device = draft.slot(seen.slot).device
    if draft.view.occupancy is not None and device:
        _note(draft, device, draft.view.occupancy.seen(device, seen))


def after_run(draft: Draft, slot: SlotView, outcome: Outcome) -> None:
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
    staying = [slot for slot in draft.view.slots if scaling.stays(slot)]
    more = occupancy.most - len(staying)
    if draft.view.grant is None:
        more = min(more, draft.work() - sum(1 for slot in staying if _is_idle(slot)))
    places = scaling.free_places(draft, staying, more)
    scaling.add_slots(
        draft, [device for device in places if not draft.view.health.is_quarantined(device, draft.now)]
    )


def _is_idle(slot: SlotView) -> bool:
    """Whether a slot will take work next: also one that has not yet said that its lease is at its end."""
    return not slot.held and slot.lease_left == 0


def _note(draft: Draft, device: str, occupancy: Occupancy) -> None:
    draft.view = replace(draft.view, occupancy=occupancy)
    if draft.view.ending is None:
        on_it = [slot for slot in draft.view.slots if slot.device == device and scaling.stays(slot)]
        for slot in reversed(on_it[occupancy.of(device).fits :]):
            scaling.drain(draft, slot.slot)


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


def may_start(draft: Draft, slot: SlotView) -> bool:
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
    staying = [slot for slot in view.slots if slot.device == device and scaling.stays(slot)]
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
    staying = any(slot.device == device and scaling.stays(slot) for slot in draft.view.slots)
    return not staying or _takes_no_runs(draft, device)


def _takes_no_runs(draft: Draft, device: str) -> bool:
    """Whether a device gets no runs: it is in quarantine, or left to its owner."""
    return draft.view.health.is_quarantined(device, draft.now) or device in draft.view.presence.away
