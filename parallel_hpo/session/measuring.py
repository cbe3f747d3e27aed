"""What the loop works with (`LoopContext`), what it measures (memory, output), and the detection of a stall.

A sweep stalls if no run is active and no deadline will come: it waits for a worker or the server, which have
a bug or don't answer. The session's stacks then go into its folder, the workers' into their logs.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from parallel_hpo.core.child_spec import WorkerSpec
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.sharing import DeviceMemorySeen
from parallel_hpo.devices.watch import DeviceWatch, Meter
from parallel_hpo.processes.fork_server import Child
from parallel_hpo.processes.output import OutputPump
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.processes.reaper import MemoryWatch
from parallel_hpo.session.count import Count
from parallel_hpo.session.decide.events import MemorySeen, OutputSeen
from parallel_hpo.session.decide.state import SlotView, SweepView, next_deadline
from parallel_hpo.session.hooks import FailureHandler
from parallel_hpo.session.server_calls import ServerCalls
from parallel_hpo.session.signals import CommandPipe, Control
from parallel_hpo.session.waiting import StopAware
from parallel_hpo.worker import tree

STILL_S: Final = 120.0
"""Stall timeout in seconds, longer than anything takes that is no run and has no timeout of its own."""
STACKS: Final = "supervisor-stacks.log"


class StallDetector:
    """Detects a sweep in which nothing happens any more."""

    def __init__(self, clock: Callable[[], float], observer: Observer, folder: Path) -> None:
        """`clock` gives monotonic seconds; `folder` is the sweep's."""
        self._clock = clock
        self._observer = observer
        self._folder = folder
        self._moved_at = clock()

    def moved(self) -> None:
        """Note that something has happened."""
        self._moved_at = self._clock()

    def due_in_s(self, view: SweepView) -> float | None:
        """Return in how many seconds the sweep counts as stalled unless something happens; None: never."""
        if next_deadline(view) is not None or any(slot.run or slot.pending for slot in view.slots):
            return None  # the count's answer to a start may take long, but comes
        if (view.has_others or view.grant.held) and not any(slot.busy for slot in view.slots):
            return None  # other machines have the runs, or none may start
        if view.presence.in_use and not any(slot.busy for slot in view.slots):
            return None  # other users may keep the devices for any time
        return max(0.0, self._moved_at + STILL_S - self._clock())

    def look(self, view: SweepView) -> bool:
        """Warn if the sweep is stalled; return whether the workers should write their stacks too."""
        if self.due_in_s(view) != 0.0:
            return False
        self.moved()
        words = (
            f"nothing has happened for {STILL_S:g} s and no run is active; the stacks of our processes are in"
        )
        self._observer(Message(f"{words} {self._folder / STACKS} and the workers' logs", warning=True))
        # If this fails (disk full, no descriptor), that may be the cause of the stall.
        with suppress(OSError), (self._folder / STACKS).open("a") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        return True


@dataclass(frozen=True, slots=True)
class LoopContext:
    """What the loop works with; `clock` gives monotonic seconds, `jitter` numbers in [0, 1)."""

    children: ChildPool
    count: Count
    server_calls: ServerCalls
    pump: OutputPump
    memory: MemoryWatch
    control: Control
    command_pipe: CommandPipe
    waits: StopAware
    stall_detector: StallDetector
    failure_handler: FailureHandler
    observer: Observer
    make_spec: Callable[[SlotView, str], WorkerSpec]
    """The spec of a slot's next worker, given its label."""
    devices: DeviceWatch
    meter: Meter
    owner_id: str
    clock: Callable[[], float]
    jitter: Callable[[], float]


@dataclass(slots=True)
class LivingWorker:
    """A slot's living worker, with its child process."""

    slot: Slot
    child: Child
    label: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    at_eof: bool = field(default=False)
    """Its pipe has ended; its death is not yet reported."""


MEASURE_EVERY_S: Final = 0.5
"""Interval of measurements, in seconds: a leak of 1 GB/s exceeds the limit by 0.5 GB; a reading takes 1
ms."""


class Measurements:
    """Measures what limits, and devices shared by memory, need."""

    def __init__(self, view: SweepView, tools: LoopContext) -> None:
        self._tools = tools
        self._limits = view.limits
        self._of_devices = view.occupancy is not None
        limits = (self._limits.memory_limit_mb, self._limits.stall_timeout_s)
        watched = self._of_devices or any(limit is not None for limit in limits)
        self.due_at = tools.clock() if watched else None
        """Time of the next measurement; None: nothing to measure."""

    def take(
        self, workers: Iterable[LivingWorker], devices: Iterable[str]
    ) -> Iterator[MemorySeen | OutputSeen | DeviceMemorySeen]:
        """Measure if it is time; `devices` are those with workers."""
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
        """Yield the slots with new output."""
        if self._limits.stall_timeout_s is not None:
            yield from map(OutputSeen, self._tools.pump.take_active())

    def held(self, workers: Iterable[LivingWorker], device: str) -> list[DeviceMemorySeen]:
        """Return what workers hold of a device's memory."""
        if not self._of_devices or not device:
            return []
        slots = {worker.child.pid: worker.slot for worker in workers}
        return self._tools.devices.held(device, lambda pid: _owner(pid, slots))


def _owner(pid: int, slots: dict[int, Slot]) -> Slot | None:
    """Return the slot whose worker's process tree has this process; None: a foreign process."""
    if pid in slots:
        return slots[pid]
    try:
        above = [parent.pid for parent in psutil.Process(pid).parents()]
    except psutil.Error:
        return None
    return next((slots[parent] for parent in above if parent in slots), None)
