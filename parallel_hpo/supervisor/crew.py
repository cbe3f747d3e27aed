"""More or fewer workers on a running sweep: pure, a part of `decide`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from parallel_hpo.lifecycle import Move
from parallel_hpo.supervisor.actions import Kill, Send
from parallel_hpo.supervisor.step import Step
from parallel_hpo.supervisor.view import SlotView
from parallel_hpo.words import Drain, Message, Slot, SlotState


def scale(step: Step, workers: int) -> None:
    """Add slots, or let the highest finish their runs and leave, until `workers` stay."""
    staying = [slot for slot in step.view.slots if _stays(slot)]
    for slot in reversed(staying[workers:]):
        drain(step, slot.slot)
    places = _free_places(step, staying[:workers], workers - len(staying))
    first = len(step.view.slots)
    new = (SlotView(slot=Slot(first + more), device=device) for more, device in enumerate(places))
    step.view = replace(step.view, slots=(*step.view.slots, *new))
    reached = min(workers, len(staying) + len(places))
    step.tell(Message(f"scaled from {len(staying)} to {reached} workers"))
    if reached < workers:
        words = f"the devices take no more than {reached} workers at this hpo.workers_per_device"
        step.tell(Message(words, warning=True))


def _free_places(step: Step, staying: list[SlotView], more: int) -> list[str]:
    """Return the devices of so many new slots, the least used first; fewer where the devices are full."""
    if not step.view.devices:
        return [""] * max(0, more)
    used = Counter(slot.device for slot in staying)
    rounds = range(step.view.limits.workers_per_device)
    free = [device for number in rounds for device in step.view.devices if used[device] <= number]
    return free[: max(0, more)]


def drain(step: Step, number: Slot) -> None:
    """Let a slot's worker finish its run and leave for good; what it had leased goes to the others."""
    if number >= len(step.view.slots) or not _stays(step.slot(number)):
        step.tell(Message(f"w{number} can't be drained: there is no such worker", warning=True))
        return
    slot = step.slot(number)
    step.change(number, lease_left=0, spawn_at=None, replacing=False)
    step.move(number, Move.LEAVE, "drained")
    if slot.state is SlotState.STARTING:
        step.actions.append(Kill(number))
    elif slot.alive:
        step.actions.append(Send(number, Drain()))
        if slot.run is None:
            step.change(number, kill_at=step.now + step.view.limits.grace_s)


def _stays(slot: SlotView) -> bool:
    """Whether a slot is to go on: neither gone for good nor about to be."""
    return not slot.over and (slot.state is not SlotState.STOPPING or slot.replacing)
