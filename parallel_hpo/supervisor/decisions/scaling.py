"""More or fewer workers on a running sweep: pure, a part of `decide`."""

from __future__ import annotations

from collections import Counter
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
    staying = [slot for slot in draft.view.slots if _stays(slot)]
    for slot in reversed(staying[workers:]):
        drain(draft, slot.slot)
    places = _free_places(draft, staying[:workers], workers - len(staying))
    first = len(draft.view.slots)
    new = (SlotView(slot=Slot(first + more), device=device) for more, device in enumerate(places))
    draft.view = replace(draft.view, slots=(*draft.view.slots, *new))
    reached = min(workers, len(staying) + len(places))
    draft.tell(Message(f"scaled from {len(staying)} to {reached} workers"))
    if reached < workers:
        words = f"the devices take no more than {reached} workers at this hpo.workers_per_device"
        draft.tell(Message(words, warning=True))


def _free_places(draft: Draft, staying: list[SlotView], more: int) -> list[str]:
    """Return the devices of so many new slots, the least used first; fewer where the devices are full."""
    if not draft.view.devices:
        return [""] * max(0, more)
    used = Counter(slot.device for slot in staying)
    rounds = range(draft.view.limits.workers_per_device)
    free = [device for number in rounds for device in draft.view.devices if used[device] <= number]
    return free[: max(0, more)]


def drain(draft: Draft, number: Slot) -> None:
    """Let a slot's worker finish its run and leave for good; what it had leased goes to the others."""
    if number >= len(draft.view.slots) or not _stays(draft.slot(number)):
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


def _stays(slot: SlotView) -> bool:
    """Whether a slot is to go on: neither gone for good nor about to be."""
    return not slot.over and (slot.state is not SlotState.STOPPING or slot.replacing)
