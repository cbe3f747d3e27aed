"""How many workers share a device where nobody has said it: as many as its memory holds. Pure.

The first runs on a device have it for themselves, and what their worker holds there is measured. Then as many
share it as fit beside each other, with a margin. The most that any of them has held counts ever after, and
where a run found too little memory beside others it is one less.

Which devices their owners have for themselves: pure.

    ours ──somebody else is seen there──▶ away ──nobody is seen there──▶ waiting ──FREE_AFTER_S──▶ ours
                                           ▲                                │
                                           └──────── somebody again ────────┘

A device is named as the slots know it; `` names the processor.

Whose energy and whose device hours: pure.

Counters are read when an attempt begins and when it ends, and now and then between. What one has counted
from a reading to the next goes in equal parts to the attempts that were on it in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from parallel_hpo.core.messages import JOULES_PER_KWH, Consumption, total
from parallel_hpo.core.types import Slot

FIRST_RUNS: Final = 2
"""One alone may be the smallest of a search over model sizes."""
MARGIN: Final = 0.1
"""This part of a device stays free: memory comes in blocks, and a later run may need more than the first."""


@dataclass(frozen=True, slots=True)
class DeviceMemorySeen:
    """A slot's process tree holds so much of a device's memory, of which `room_mb` is there for workers."""

    slot: Slot
    used_mb: float
    room_mb: float

    @property
    def part(self) -> float:
        """Which part of the room it holds."""
        return self.used_mb / self.room_mb if self.room_mb > 0 else 1.0


@dataclass(frozen=True, slots=True)
class DeviceOccupancy:
    """What is known of one device."""

    runs: int = 0
    """Runs that were measured there to their end."""
    peak: DeviceMemorySeen | None = None
    """The most that one worker has held; None: nothing could be measured."""
    ceiling: int | None = None
    """So many workers may share it, whatever was measured: beside more a run found too little memory."""

    @property
    def is_measured(self) -> bool:
        """Whether the first runs are over."""
        return self.runs >= FIRST_RUNS

    @property
    def fits(self) -> int:
        """How many workers may share it now."""
        if not self.is_measured or self.peak is None:
            return 1
        fits = max(1, int((1.0 - MARGIN) / self.peak.part)) if self.peak.part > 0 else 1
        return fits if self.ceiling is None else min(fits, self.ceiling)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """All devices of a sweep whose workers share them by memory."""

    most: int
    """So many workers there are on all of them together, at the most."""
    devices: Mapping[str, DeviceOccupancy] = field(default_factory=dict)

    def of(self, device: str) -> DeviceOccupancy:
        """Return what is known of one device."""
        return self.devices.get(device, DeviceOccupancy())

    def _with(self, device: str, fill: DeviceOccupancy) -> Occupancy:
        return replace(self, devices={**self.devices, device: fill})

    def seen(self, device: str, memory: DeviceMemorySeen) -> Occupancy:
        """Return it after a worker was seen to hold so much."""
        fill = self.of(device)
        if memory.used_mb <= 0 or (fill.peak is not None and memory.part <= fill.peak.part):
            return self
        return self._with(device, replace(fill, peak=memory))

    def performed(self, device: str) -> Occupancy:
        """Return it after a run was measured to its end."""
        fill = self.of(device)
        return self if fill.is_measured else self._with(device, replace(fill, runs=fill.runs + 1))

    def shrink(self, device: str, workers: int) -> Occupancy:
        """Return it after a run found too little memory there, as one of so many workers."""
        fill = self.of(device)
        ceiling = max(1, workers - 1 if fill.ceiling is None else min(workers - 1, fill.ceiling))
        return self._with(device, replace(fill, ceiling=ceiling))


T = TypeVar("T")

FREE_AFTER_S: Final = 10.0
"""So long nobody is to be seen on a device before it is used again, so that who comes and goes meets no run
at each turn. A notebook holds its device also between its cells, and a desktop calls itself idle late."""


@dataclass(frozen=True, slots=True)
class DevicePresence:
    """The devices that are away; those that are not named are ours."""

    away: Mapping[str, str] = field(default_factory=dict)
    """By whom each was wanted last, in words."""
    back_at: Mapping[str, float] = field(default_factory=dict)
    """When those are ours again on which nobody is seen any more, monotonic seconds."""


@dataclass(frozen=True, slots=True)
class OtherUsersSeen:
    """A look has found somebody on other devices than the one before: by whom each is wanted, in words."""

    seen: Mapping[str, str]


def look_again(before: DevicePresence, seen: Mapping[str, str], now: float) -> DevicePresence:
    """Return the presence after a look that has `seen` somebody on some devices."""
    left = before.away.keys() - seen.keys()
    back_at = {device: before.back_at.get(device, now + FREE_AFTER_S) for device in left}
    return DevicePresence({**before.away, **seen}, back_at)


def come_back(before: DevicePresence, now: float) -> DevicePresence:
    """Return the presence without the devices on which nobody was seen for long enough."""
    back = {device for device, at in before.back_at.items() if at <= now}
    return DevicePresence(_without(back, before.away), _without(back, before.back_at))


def _without(back: set[str], known: Mapping[str, T]) -> dict[str, T]:
    return {device: value for device, value in known.items() if device not in back}


SECONDS_PER_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Counter:
    """A device, or a processor, with its counter of energy."""

    name: str
    of_device: bool = True
    range_j: float | None = None
    """After so many joules it begins at 0 again; None: never, so that one which went back was reset."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a counter was; `at` is in monotonic seconds, `joules` is None where it can't be read."""

    at: float
    joules: float | None


@dataclass(frozen=True, slots=True)
class EnergyAccount:
    """The attempts that are on: which counters count for each, and what it has used so far."""

    counters: Mapping[Slot, tuple[Counter, ...]] = field(default_factory=dict)
    seen: Mapping[Counter, Reading] = field(default_factory=dict)
    """Each counter's last reading."""
    used: Mapping[Slot, Consumption] = field(default_factory=dict)

    @property
    def in_use(self) -> frozenset[Counter]:
        """The counters of attempts that are on."""
        return frozenset(counter for counters in self.counters.values() for counter in counters)


def begin(account: EnergyAccount, slot: Slot, readings: Mapping[Counter, Reading]) -> EnergyAccount:
    """Let an attempt begin in a slot, on the counters that were read for it."""
    account = settle(account, readings)
    return replace(
        account,
        counters={**account.counters, slot: tuple(readings)},
        used={**account.used, slot: Consumption()},
    )


def end(
    account: EnergyAccount, slot: Slot, readings: Mapping[Counter, Reading]
) -> tuple[EnergyAccount, Consumption]:
    """Let the slot's attempt end, and return what it has used."""
    account = settle(account, readings)
    used = account.used.get(slot, Consumption())
    counters = {other: own for other, own in account.counters.items() if other != slot}
    left = {other: own for other, own in account.used.items() if other != slot}
    return replace(account, counters=counters, used=left), used


def settle(account: EnergyAccount, readings: Mapping[Counter, Reading]) -> EnergyAccount:
    """Share out what counters have counted since they were seen last."""
    used = dict(account.used)
    for counter, now in readings.items():
        on = [slot for slot, counters in account.counters.items() if counter in counters]
        for slot in on:
            used[slot] = total((used[slot], _part(counter, account.seen[counter], now, len(on))))
    return replace(account, seen={**account.seen, **readings}, used=used)


def counted_between(before: float | None, after: float | None, range_j: float | None) -> float | None:
    """Return the joules between two readings of a counter; None: that can't be said."""
    if before is None or after is None:
        return None
    if after >= before:
        return after - before
    return None if range_j is None else after - before + range_j


def _part(counter: Counter, before: Reading, now: Reading, sharers: int) -> Consumption:
    joules = counted_between(before.joules, now.joules, counter.range_j)
    kwh = None if joules is None else joules / JOULES_PER_KWH / sharers
    if not counter.of_device:
        return Consumption(cpu_kwh=kwh)
    return Consumption((now.at - before.at) / SECONDS_PER_HOUR / sharers, kwh)
