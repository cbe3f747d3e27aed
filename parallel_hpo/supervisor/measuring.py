"""What the loop looks at by itself, and how often: what workers hold, and whether they print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import psutil

from parallel_hpo.supervisor.decisions.events import MemorySeen, OutputSeen
from parallel_hpo.supervisor.decisions.view import SweepView
from parallel_hpo.supervisor.devices.occupancy import DeviceMemorySeen
from parallel_hpo.supervisor.tools import LivingWorker, Tools
from parallel_hpo.words import Slot
from parallel_hpo.worker import tree

MEASURE_EVERY_S: Final = 0.5
"""A leak of 1 GB/s passes a memory limit by half of that; reading a tree's memory takes a millisecond."""


class Measures:
    """Looks where a limit, or devices that are shared by their memory, ask for it."""

    def __init__(self, view: SweepView, tools: Tools) -> None:
        self._tools = tools
        self._limits = view.limits
        self._of_devices = view.occupancy is not None
        limits = (self._limits.memory_limit_mb, self._limits.stall_timeout_s)
        watched = self._of_devices or any(limit is not None for limit in limits)
        self.due_at = tools.clock() if watched else None
        """When to look next; None: nothing asks for it."""

    def take(
        self, workers: Iterable[LivingWorker], devices: Iterable[str]
    ) -> Iterator[MemorySeen | OutputSeen | DeviceMemorySeen]:
        """Look, where it is time to; `devices` are those with workers."""
        now = self._tools.clock()
        if self.due_at is None or now < self.due_at:
            return
        self.due_at = now + MEASURE_EVERY_S
        workers = list(workers)
        yield from self.output()
        if self._limits.memory_limit_mb is not None:
            for worker in workers:
                yield MemorySeen(worker.slot, tree.used_mb(worker.child.pid))
        for device in set(devices):
            yield from self.held(workers, device)

    def output(self) -> Iterator[OutputSeen]:
        """Look who has printed something."""
        if self._limits.stall_timeout_s is not None:
            yield from map(OutputSeen, self._tools.pump.take_active())

    def held(self, workers: Iterable[LivingWorker], device: str) -> list[DeviceMemorySeen]:
        """Look at what workers hold of a slot's devices."""
        if not self._of_devices or not device:
            return []
        slots = {worker.child.pid: worker.slot for worker in workers}
        return self._tools.devices.held(device, lambda pid: _owner(pid, slots))


def _owner(pid: int, slots: dict[int, Slot]) -> Slot | None:
    """Return the slot to whose worker's tree a process belongs; None: it is somebody else's."""
    if pid in slots:
        return slots[pid]
    try:
        above = [parent.pid for parent in psutil.Process(pid).parents()]
    except psutil.Error:
        return None
    return next((slots[parent] for parent in above if parent in slots), None)
