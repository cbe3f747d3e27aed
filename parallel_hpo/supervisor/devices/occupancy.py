"""How many workers share a device where nobody has said it: as many as its memory holds. Pure.

The first runs on a device have it for themselves, and what their worker holds there is measured. Then as many
share it as fit beside each other, with a margin. The most that any of them has held counts ever after, and
where a run found too little memory beside others it is one less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from parallel_hpo.words import Slot

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

    def fell_short(self, device: str, workers: int) -> Occupancy:
        """Return it after a run found too little memory there, as one of so many workers."""
        fill = self.of(device)
        ceiling = max(1, workers - 1 if fill.ceiling is None else min(workers - 1, fill.ceiling))
        return self._with(device, replace(fill, ceiling=ceiling))
