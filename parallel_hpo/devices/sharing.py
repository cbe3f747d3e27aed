"""Sharing of devices: number of workers by memory, other users, and energy per attempt. Pure.

Memory: the first runs have a device exclusively, and their worker's memory there is measured. Then as many
workers share it as fit, with a margin. The highest memory of any worker counts from then on; a run out of
memory beside others lowers the number by one.

Other users (a device has the slots' name for it; the empty name is the CPU):

    ours ──another user is seen──▶ in use ──none is seen──▶ waiting ──FREE_AFTER_S──▶ ours
                                    ▲                          │
                                    └───── another user ───────┘

Energy: counters are read at an attempt's start and end, and sometimes between. The difference of two
readings is shared equally by the attempts that used the counter in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from parallel_hpo.core.messages import JOULES_PER_KWH, Consumption, total
from parallel_hpo.core.types import Slot

FIRST_RUNS: Final = 2
"""Number of measured runs per device; a single one may be the smallest of a search over model sizes."""
MARGIN: Final = 0.1
"""Part of a device that stays free: memory comes in blocks, and later runs may need more."""


@dataclass(frozen=True, slots=True)
class DeviceMemorySeen:
    """Device memory of a slot's process tree; `room_mb` is available to all workers."""

    slot: Slot
    used_mb: float
    room_mb: float

    @property
    def part(self) -> float:
        """Return the part of the room that it holds."""
        return self.used_mb / self.room_mb if self.room_mb > 0 else 1.0


@dataclass(frozen=True, slots=True)
class DeviceOccupancy:
    """Measurements of one device."""

    runs: int = 0
    """Number of measured runs."""
    peak: DeviceMemorySeen | None = None
    """Highest memory of a worker; None: nothing could be measured."""
    ceiling: int | None = None
    """Maximum of workers regardless of measurements, after a run ran out of memory."""

    @property
    def is_measured(self) -> bool:
        """Return whether the first runs have ended."""
        return self.runs >= FIRST_RUNS

    @property
    def fits(self) -> int:
        """Return how many workers may share it now."""
        if not self.is_measured or self.peak is None:
            return 1
        fits = max(1, int((1.0 - MARGIN) / self.peak.part)) if self.peak.part > 0 else 1
        return fits if self.ceiling is None else min(fits, self.ceiling)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """The measurements of all devices that workers share by memory."""

    most: int
    """Maximum of workers on all devices together."""
    devices: Mapping[str, DeviceOccupancy] = field(default_factory=dict)

    def of(self, device: str) -> DeviceOccupancy:
        """Return the measurements of one device."""
        return self.devices.get(device, DeviceOccupancy())

    def _with(self, device: str, fill: DeviceOccupancy) -> Occupancy:
        return replace(self, devices={**self.devices, device: fill})

    def seen(self, device: str, memory: DeviceMemorySeen) -> Occupancy:
        """Return the occupancy after a worker's memory was measured."""
        fill = self.of(device)
        if memory.used_mb <= 0 or (fill.peak is not None and memory.part <= fill.peak.part):
            return self
        return self._with(device, replace(fill, peak=memory))

    def run_measured(self, device: str) -> Occupancy:
        """Return the occupancy after a fully measured run."""
        fill = self.of(device)
        return self if fill.is_measured else self._with(device, replace(fill, runs=fill.runs + 1))

    def shrink(self, device: str, workers: int) -> Occupancy:
        """Return the occupancy after a run ran out of memory there, as one of this many workers."""
        fill = self.of(device)
        ceiling = max(1, workers - 1 if fill.ceiling is None else min(workers - 1, fill.ceiling))
        return self._with(device, replace(fill, ceiling=ceiling))


T = TypeVar("T")

FREE_AFTER_S: Final = 10.0
"""Time in seconds without another user before a device is used again, so that brief absences start no run. A
notebook holds its device between cells, and a desktop becomes idle late."""


@dataclass(frozen=True, slots=True)
class DevicePresence:
    """The devices in use by others; all others are ours."""

    in_use: Mapping[str, str] = field(default_factory=dict)
    """The last user of each, in words."""
    back_at: Mapping[str, float] = field(default_factory=dict)
    """When devices without other users become ours again, in monotonic seconds."""


@dataclass(frozen=True, slots=True)
class OtherUsersSeen:
    """The devices with other users have changed; `seen` has each one's user in words."""

    seen: Mapping[str, str]


def note_users(before: DevicePresence, seen: Mapping[str, str], now: float) -> DevicePresence:
    """Return the presence after other users were `seen` on some devices."""
    left = before.in_use.keys() - seen.keys()
    back_at = {device: before.back_at.get(device, now + FREE_AFTER_S) for device in left}
    return DevicePresence({**before.in_use, **seen}, back_at)


def note_free(before: DevicePresence, now: float) -> DevicePresence:
    """Return the presence without the devices that were free for long enough."""
    back = {device for device, at in before.back_at.items() if at <= now}
    return DevicePresence(_without(back, before.in_use), _without(back, before.back_at))


def _without(back: set[str], known: Mapping[str, T]) -> dict[str, T]:
    return {device: value for device, value in known.items() if device not in back}


SECONDS_PER_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Counter:
    """The energy counter of a device or a CPU."""

    name: str
    of_device: bool = True
    range_j: float | None = None
    """Joules after which it wraps to 0; None: never, so a lower value is a reset."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A counter's value; `at` is in monotonic seconds, `joules` is None if it can't be read."""

    at: float
    joules: float | None


@dataclass(frozen=True, slots=True)
class EnergyAccount:
    """The active attempts, with each one's counters and consumption."""

    counters: Mapping[Slot, tuple[Counter, ...]] = field(default_factory=dict)
    seen: Mapping[Counter, Reading] = field(default_factory=dict)
    """Last reading of each counter."""
    used: Mapping[Slot, Consumption] = field(default_factory=dict)

    @property
    def in_use(self) -> frozenset[Counter]:
        """Return the counters of active attempts."""
        return frozenset(counter for counters in self.counters.values() for counter in counters)


def begin(account: EnergyAccount, slot: Slot, readings: Mapping[Counter, Reading]) -> EnergyAccount:
    """Begin an attempt in a slot, with the counters in `readings`."""
    account = update(account, readings)
    return replace(
        account,
        counters={**account.counters, slot: tuple(readings)},
        used={**account.used, slot: Consumption()},
    )


def end(
    account: EnergyAccount, slot: Slot, readings: Mapping[Counter, Reading]
) -> tuple[EnergyAccount, Consumption]:
    """End the slot's attempt, and return its consumption."""
    account = update(account, readings)
    used = account.used.get(slot, Consumption())
    counters = {other: own for other, own in account.counters.items() if other != slot}
    left = {other: own for other, own in account.used.items() if other != slot}
    return replace(account, counters=counters, used=left), used


def update(account: EnergyAccount, readings: Mapping[Counter, Reading]) -> EnergyAccount:
    """Share the counters' differences since their last readings among the attempts."""
    used = dict(account.used)
    for counter, now in readings.items():
        on = [slot for slot, counters in account.counters.items() if counter in counters]
        for slot in on:
            used[slot] = total((used[slot], _part(counter, account.seen[counter], now, len(on))))
    return replace(account, seen={**account.seen, **readings}, used=used)


def counted_between(before: float | None, after: float | None, range_j: float | None) -> float | None:
    """Return the joules between two readings of a counter, None if unknown."""
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
