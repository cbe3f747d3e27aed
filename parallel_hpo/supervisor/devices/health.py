"""When a device gets no runs for a while, and when it is tried again: pure.

    healthy ──fails in a row, others do well──▶ quarantined ──wait──▶ on probation
       ▲                                            ▲                    │   │
       └───────────────── a run finished ───────────┼────────────────────┘   │
                                                    └────────── it failed ───┘

A device on probation performs one run at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from parallel_hpo.words import Outcome

FAILURES_IN_A_ROW: Final = 3
"""So many failures of one device's runs may be chance; others then fail now and then too."""
FINISHED_PER_FAILURE: Final = 4
"""Others do well while at least so many of their runs finish for each that fails."""
QUARANTINE_S: Final = 300.0
QUARANTINE_MAX_S: Final = 3600.0
"""A first quarantine, doubled by each probation run that fails, up to the longest."""


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """How one device's runs have gone."""

    failed: int = 0
    """In a row, up to now."""
    others_finished: int = 0
    others_failed: int = 0
    """Of the other devices' runs, since that row began."""
    quarantines: int = 0
    """In a row, up to now."""
    held_until: float | None = None
    """In quarantine until then (monotonic seconds), on probation after; None: healthy."""


@dataclass(frozen=True, slots=True)
class Health:
    """How all devices' runs have gone; one that is not named has had none."""

    devices: Mapping[str, DeviceHealth] = field(default_factory=dict)

    def of(self, device: str) -> DeviceHealth:
        """Return one device's."""
        return self.devices.get(device, DeviceHealth())

    def is_held(self, device: str, now: float) -> bool:
        """Whether it is in quarantine."""
        until = self.of(device).held_until
        return until is not None and now < until

    def is_on_probation(self, device: str, now: float) -> bool:
        """Whether its next run decides."""
        until = self.of(device).held_until
        return until is not None and until <= now


def note_run(
    health: Health,
    device: str,
    outcome: Outcome,
    *,
    others: frozenset[str],
    now: float,
    faulty: bool = False,
) -> Health:
    """Return the health after a run on `device` ended so; `faulty`: its failure was the device's own.

    `others` are the further devices that have workers: while all of them are held, or there
    are none, a device is left at work.
    """
    if outcome is Outcome.STOPPED:
        return health
    devices = dict(health.devices)
    for other in others:
        devices[other] = _note_others(health.of(other), outcome)
    if outcome is Outcome.FINISHED:
        devices[device] = DeviceHealth()
        return Health(devices)
    own = replace(health.of(device), failed=health.of(device).failed + 1)
    have_others = any(not health.is_held(other, now) for other in others)
    if have_others and not health.is_held(device, now) and (faulty or _is_to_be_held(own)):
        own = _held(own, now)
    devices[device] = own
    return Health(devices)


def _note_others(own: DeviceHealth, outcome: Outcome) -> DeviceHealth:
    """Note another device's run, in a device's row of failures."""
    if own.failed == 0:
        return own
    if outcome is Outcome.FINISHED:
        return replace(own, others_finished=own.others_finished + 1)
    return replace(own, others_failed=own.others_failed + 1)


def _is_to_be_held(own: DeviceHealth) -> bool:
    if own.held_until is not None:
        return True  # this was its probation run
    others_do_well = own.others_failed * FINISHED_PER_FAILURE <= own.others_finished
    return own.failed >= FAILURES_IN_A_ROW and others_do_well


def _held(own: DeviceHealth, now: float) -> DeviceHealth:
    wait_s = min(QUARANTINE_MAX_S, QUARANTINE_S * 2.0 ** min(own.quarantines, 10))
    return DeviceHealth(failed=own.failed, quarantines=own.quarantines + 1, held_until=now + wait_s)
