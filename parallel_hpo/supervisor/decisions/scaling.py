"""More or fewer workers on a running sweep: pure, a part of `decide`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from parallel_hpo.lifecycle import Move
from parallel_hpo.notices import Message
from parallel_hpo.protocol.messages import Drain
from parallel_hpo.supervisor.decisions.actions import Kill, Send
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.view import SlotView
from parallel_hpo.words import Slot, SlotState


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
