"""Whose energy and whose device hours: pure.

Counters are read when an attempt begins and when it ends, and now and then between. What one has counted
from a reading to the next goes in equal parts to the attempts that were on it in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from parallel_hpo.consumption import JOULES_PER_KWH, Consumption, total
from parallel_hpo.words import Slot

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
class Account:
    """The attempts that are on: which counters count for each, and what it has used so far."""

    counters: Mapping[Slot, tuple[Counter, ...]] = field(default_factory=dict)
    seen: Mapping[Counter, Reading] = field(default_factory=dict)
    """Each counter's last reading."""
    used: Mapping[Slot, Consumption] = field(default_factory=dict)

    @property
    def in_use(self) -> frozenset[Counter]:
        """The counters of attempts that are on."""
        return frozenset(counter for counters in self.counters.values() for counter in counters)


def begin(account: Account, slot: Slot, readings: Mapping[Counter, Reading]) -> Account:
    """Let an attempt begin in a slot, on the counters that were read for it."""
    account = settle(account, readings)
    return replace(
        account,
        counters={**account.counters, slot: tuple(readings)},
        used={**account.used, slot: Consumption()},
    )


def end(account: Account, slot: Slot, readings: Mapping[Counter, Reading]) -> tuple[Account, Consumption]:
    """Let the slot's attempt end, and return what it has used."""
    account = settle(account, readings)
    used = account.used.get(slot, Consumption())
    counters = {other: own for other, own in account.counters.items() if other != slot}
    left = {other: own for other, own in account.used.items() if other != slot}
    return replace(account, counters=counters, used=left), used


def settle(account: Account, readings: Mapping[Counter, Reading]) -> Account:
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
