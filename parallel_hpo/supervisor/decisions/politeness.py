"""Devices whose owners come back, and go again: pure, a part of `decide`.

What runs on such a device may finish, and nothing starts on it until nobody else is there.
"""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.notices import Message
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.view import SlotView
from parallel_hpo.supervisor.devices.presence import OwnersSeen, come_back, look_again
from parallel_hpo.words import SlotState


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
