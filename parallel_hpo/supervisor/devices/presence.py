"""Which devices their owners have for themselves: pure.

    ours ──somebody else is seen there──▶ away ──nobody is seen there──▶ waiting ──FREE_AFTER_S──▶ ours
                                           ▲                                │
                                           └──────── somebody again ────────┘

A device is named as the slots know it; `` names the processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

T = TypeVar("T")

FREE_AFTER_S: Final = 10.0
"""So long nobody is to be seen on a device before it is used again, so that who comes and goes meets no run
at each turn. A notebook holds its device also between its cells, and a desktop calls itself idle late."""


@dataclass(frozen=True, slots=True)
class Presence:
    """The devices that are away; those that are not named are ours."""

    away: Mapping[str, str] = field(default_factory=dict)
    """By whom each was wanted last, in words."""
    back_at: Mapping[str, float] = field(default_factory=dict)
    """When those are ours again on which nobody is seen any more, monotonic seconds."""


@dataclass(frozen=True, slots=True)
class OwnersSeen:
    """A look has found somebody on other devices than the one before: by whom each is wanted, in words."""

    seen: Mapping[str, str]


def look_again(before: Presence, seen: Mapping[str, str], now: float) -> Presence:
    """Return the presence after a look that has `seen` somebody on some devices."""
    left = before.away.keys() - seen.keys()
    back_at = {device: before.back_at.get(device, now + FREE_AFTER_S) for device in left}
    return Presence({**before.away, **seen}, back_at)


def come_back(before: Presence, now: float) -> Presence:
    """Return the presence without the devices on which nobody was seen for long enough."""
    back = {device for device, at in before.back_at.items() if at <= now}
    return Presence(_without(back, before.away), _without(back, before.back_at))


def _without(back: set[str], known: Mapping[str, T]) -> dict[str, T]:
    return {device: value for device, value in known.items() if device not in back}
