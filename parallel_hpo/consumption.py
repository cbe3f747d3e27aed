"""What attempts, runs and sweeps have used of devices and energy: one shape from meter to summary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

JOULES_PER_KWH: Final = 3.6e6


@dataclass(frozen=True, slots=True)
class Consumption:
    """What was measured; None: nothing of it was, so that nobody knows.

    Runs that share a device share its time and its energy: of each moment every one of them has as much
    as the others. Sums leave out what is not known, and are at least so much.
    """

    device_hours: float | None = None
    """Hours of one device; of a worker with two, an hour counts twice."""
    device_kwh: float | None = None
    """By the devices' own counters: all that they drew meanwhile."""
    cpu_kwh: float | None = None
    """By the processors' counters: all that they drew meanwhile, whoever computed on them."""

    def __bool__(self) -> bool:
        """Whether anything of it is known."""
        return self != UNKNOWN


UNKNOWN: Final = Consumption()


def total(parts: Iterable[Consumption]) -> Consumption:
    """Return what all parts are together."""
    known = list(parts)
    return Consumption(
        _sum(part.device_hours for part in known),
        _sum(part.device_kwh for part in known),
        _sum(part.cpu_kwh for part in known),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def in_words(used: Consumption) -> str:
    """Return what is known of it, as people read it: `1.5 device hours, 0.42 kWh of devices`; '': nothing."""
    parts = (
        (used.device_hours, "device hours"),
        (used.device_kwh, "kWh of devices"),
        (used.cpu_kwh, "kWh of processors"),
    )
    return ", ".join(f"{_number(value)} {unit}" for value, unit in parts if value is not None)


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.3g}"
