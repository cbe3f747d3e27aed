"""Device health: failures, quarantine and probation; and when a dead worker's device is free again. Pure.

    healthy ──fails in a row, others do well──▶ quarantined ──wait──▶ on probation
       ▲                                            ▲                    │   │
       └───────────────── a run finished ───────────┼────────────────────┘   │
                                                    └────────── it failed ───┘

A device on probation runs one run at a time. A table of patterns reads the reasons of failures.

When a worker has died, its whole process tree has ended, so living processes on its device belong to others.
But the driver may still be releasing a dead process's memory, and the next run would run out of memory.
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
"""Failures in a row before a quarantine; fewer may be chance, as on other devices."""
FINISHED_PER_FAILURE: Final = 4
"""Finished runs per failure above which the other devices count as healthy."""
QUARANTINE_S: Final = 300.0
QUARANTINE_MAX_S: Final = 3600.0
"""First and longest quarantine, in seconds; each failed probation run doubles it."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """Asks for `action` if a failure's reason contains `pattern` (a regular expression, ignoring case)."""

    pattern: str
    action: FaultAction


OUT_OF_MEMORY: Final = (
    FaultRule(r"(CUDA|HIP|CUBLAS|CUDNN).*(out.of.memory|ALLOC_FAILED)", FaultAction.RECYCLE),
    FaultRule(r"OutOfMemoryError", FaultAction.RECYCLE),
    FaultRule(r"RESOURCE_EXHAUSTED", FaultAction.RECYCLE),
)
"""Out of device memory, as reported by the CUDA driver and torch, CuPy, and XLA and TensorFlow."""
BUILT_IN: Final = (
    FaultRule(r"uncorrectable ECC", FaultAction.QUARANTINE),
    *OUT_OF_MEMORY,
    FaultRule(r"device-side assert|illegal memory access|unspecified launch failure", FaultAction.RECYCLE),
)
"""Failures after which a process is unusable: its context is broken, or objects of the failed run hold its
memory."""


def find_action(reason: str, own: Iterable[FaultRule] = ()) -> FaultAction:
    """Return the action of the first matching rule; the user's `own` rules come first."""
    for rule in (*own, *BUILT_IN):
        if re.search(rule.pattern, reason, re.IGNORECASE):
            return rule.action
    return FaultAction.KEEP


def is_out_of_memory(reason: str) -> bool:
    """Return whether a run failed for lack of device memory."""
    return any(re.search(rule.pattern, reason, re.IGNORECASE) for rule in OUT_OF_MEMORY)


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """The history of one device's runs."""

    failed: int = 0
    """Failures in a row."""
    others_finished: int = 0
    others_failed: int = 0
    """Runs of the other devices since the first of these failures."""
    quarantines: int = 0
    """Quarantines in a row."""
    held_until: float | None = None
    """End of the quarantine (monotonic seconds), on probation afterwards; None: healthy."""


@dataclass(frozen=True, slots=True)
class Health:
    """The health of all devices; one without an entry has had no runs."""

    devices: Mapping[str, DeviceHealth] = field(default_factory=dict)

    def of(self, device: str) -> DeviceHealth:
        """Return one device's health."""
        return self.devices.get(device, DeviceHealth())

    def is_quarantined(self, device: str, now: float) -> bool:
        """Return whether a device is in quarantine."""
        until = self.of(device).held_until
        return until is not None and now < until

    def is_on_probation(self, device: str, now: float) -> bool:
        """Return whether a device is on probation: its next run decides."""
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
    """Return the health after a run on `device`.

    Args:
        others: the other devices with workers. If there are none, or all are in quarantine, the device stays
        in use. faulty: the failure was the device's fault.
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
    """Count another device's run, if this device has failures in a row."""
    if own.failed == 0:
        return own
    if outcome is Outcome.FINISHED:
        return replace(own, others_finished=own.others_finished + 1)
    return replace(own, others_failed=own.others_failed + 1)


def _is_to_be_quarantined(own: DeviceHealth) -> bool:
    if own.held_until is not None:
        return True  # this was the probation run
    others_do_well = own.others_failed * FINISHED_PER_FAILURE <= own.others_finished
    return own.failed >= FAILURES_IN_A_ROW and others_do_well


def _held(own: DeviceHealth, now: float) -> DeviceHealth:
    wait_s = min(QUARANTINE_MAX_S, QUARANTINE_S * 2.0 ** min(own.quarantines, 10))
    return DeviceHealth(failed=own.failed, quarantines=own.quarantines + 1, held_until=now + wait_s)


HANDOVER_LIMIT_S: Final = 30.0
"""Timeout in seconds for released memory; a driver releases tens of GB within seconds. Then the next run
tries."""
LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class DeviceClear:
    """The device memory of a slot's dead worker is free; `held_by`: who still holds it after the timeout."""

    slot: Slot
    held_by: str = ""


def still_held(
    processes: Iterable[DeviceProcess], *, foreign: frozenset[int], is_alive: Callable[[int], bool]
) -> tuple[DeviceProcess, ...]:
    """Return the dead processes whose memory is not free yet.

    `foreign` were there before the sweep, or exceeded an earlier timeout: within a container, the driver
    may use ids of another pid namespace.
    """
    return tuple(each for each in processes if each.pid not in foreign and not is_alive(each.pid))


def holders_in_words(processes: Iterable[DeviceProcess]) -> str:
    """Return in words which processes hold memory, and how much."""
    return ", ".join(
        f"process {each.pid}" + ("" if each.used_mb is None else f" ({each.used_mb:.0f} MB)")
        for each in processes
    )
