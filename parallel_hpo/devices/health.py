"""How a device fares: what a failed run's reason says of it, and when it gets no runs for a while. Pure.

    healthy ──fails in a row, others do well──▶ quarantined ──wait──▶ on probation
       ▲                                            ▲                    │   │
       └───────────────── a run finished ───────────┼────────────────────┘   │
                                                    └────────── it failed ───┘

A device on probation performs one run at a time. Reasons are read by a small table of patterns.

When a device whose worker died may go to the next one: pure.

The worker's whole process tree is gone by then, so what computes there and lives is
somebody else's. But the driver may still be taking a dead process's memory back: the
next run would then run out of memory for no fault of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from parallel_hpo.config.tables import FaultAction
from parallel_hpo.core.types import Outcome, Slot
from parallel_hpo.devices.library import DeviceProcess

FAILURES_IN_A_ROW: Final = 3
"""So many failures of one device's runs may be chance; others then fail now and then too."""
FINISHED_PER_FAILURE: Final = 4
"""Others do well while at least so many of their runs finish for each that fails."""
QUARANTINE_S: Final = 300.0
QUARANTINE_MAX_S: Final = 3600.0
"""A first quarantine, doubled by each probation run that fails, up to the longest."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A reason in which `pattern` (a regular expression, upper or lower case) is found asks for `action`."""

    pattern: str
    action: FaultAction


OUT_OF_MEMORY: Final = (
    FaultRule(r"(CUDA|HIP|CUBLAS|CUDNN).*(out.of.memory|ALLOC_FAILED)", FaultAction.RECYCLE),
    FaultRule(r"OutOfMemoryError", FaultAction.RECYCLE),
    FaultRule(r"RESOURCE_EXHAUSTED", FaultAction.RECYCLE),
)
"""A device's memory was too little: as the CUDA driver and torch say it, CuPy, and XLA and TensorFlow."""
BUILT_IN: Final = (
    FaultRule(r"uncorrectable ECC", FaultAction.QUARANTINE),
    *OUT_OF_MEMORY,
    FaultRule(r"device-side assert|illegal memory access|unspecified launch failure", FaultAction.RECYCLE),
)
"""After each of these a process is of no more use: its context is broken for good, or its
memory is held by what the failed run left behind."""


def find_action(reason: str, own: Iterable[FaultRule] = ()) -> FaultAction:
    """Return what the first rule that fits asks for; the user's `own` are tried first."""
    for rule in (*own, *BUILT_IN):
        if re.search(rule.pattern, reason, re.IGNORECASE):
            return rule.action
    return FaultAction.KEEP


def is_out_of_memory(reason: str) -> bool:
    """Whether a run failed as its device had too little memory."""
    return any(re.search(rule.pattern, reason, re.IGNORECASE) for rule in OUT_OF_MEMORY)


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

    def is_quarantined(self, device: str, now: float) -> bool:
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
    have_others = any(not health.is_quarantined(other, now) for other in others)
    if have_others and not health.is_quarantined(device, now) and (faulty or _is_to_be_quarantined(own)):
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


def _is_to_be_quarantined(own: DeviceHealth) -> bool:
    if own.held_until is not None:
        return True  # this was its probation run
    others_do_well = own.others_failed * FINISHED_PER_FAILURE <= own.others_finished
    return own.failed >= FAILURES_IN_A_ROW and others_do_well


def _held(own: DeviceHealth, now: float) -> DeviceHealth:
    wait_s = min(QUARANTINE_MAX_S, QUARANTINE_S * 2.0 ** min(own.quarantines, 10))
    return DeviceHealth(failed=own.failed, quarantines=own.quarantines + 1, held_until=now + wait_s)


HANDOVER_LIMIT_S: Final = 30.0
"""A driver takes tens of GB back within seconds; after this the next run is let try."""
LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class DeviceClear:
    """What a slot's dead worker held on its devices is free; `held_by`: who holds it after a long wait."""

    slot: Slot
    held_by: str = ""


def still_held(
    processes: Iterable[DeviceProcess], *, strangers: frozenset[int], is_alive: Callable[[int], bool]
) -> tuple[DeviceProcess, ...]:
    """Return the dead processes whose memory is not free yet.

    `strangers` were there before the sweep, or have outstayed an earlier wait: within a
    container the driver may know processes by numbers that mean nothing here.
    """
    return tuple(each for each in processes if each.pid not in strangers and not is_alive(each.pid))


def holders_in_words(processes: Iterable[DeviceProcess]) -> str:
    """Return who holds memory, and how much, in words."""
    return ", ".join(
        f"process {each.pid}" + ("" if each.used_mb is None else f" ({each.used_mb:.0f} MB)")
        for each in processes
    )
