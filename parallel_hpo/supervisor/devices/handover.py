"""When a device whose worker died may go to the next one: pure.

The worker's whole process tree is gone by then, so what computes there and lives is
somebody else's. But the driver may still be taking a dead process's memory back: the
next run would then run out of memory for no fault of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from parallel_hpo.supervisor.devices.library import DeviceProcess
from parallel_hpo.words import Slot

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
