"""A sweep in which nothing happens, and nothing will, says so: no run is on, and no deadline will come.

It waits then for a word of a worker or of the server that may never come: a fault of ours, or a
server that answers nobody. The supervisor's stacks go into its folder, the workers' into their logs.

What the loop acts with, and how it holds a living worker.

What the loop looks at by itself, and how often: what workers hold, and whether they print.
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
from parallel_hpo.session.decide.demand import needs
from parallel_hpo.session.decide.events import MemorySeen, OutputSeen
from parallel_hpo.session.decide.state import SlotView, SweepView, next_deadline
from parallel_hpo.session.hooks import FailureHandler
from parallel_hpo.session.membership import Membership
from parallel_hpo.session.other_launches import OtherLaunches
from parallel_hpo.session.recorder import Recorder
from parallel_hpo.session.server_calls import ServerCalls
from parallel_hpo.session.signals import CommandPipe, Control
from parallel_hpo.session.waiting import StopAware
from parallel_hpo.worker import tree

STILL_S: Final = 120.0
"""Longer than anything takes that is neither a run nor has a deadline of its own."""
STACKS: Final = "supervisor-stacks.log"


class StallDetector:
    """Knows when something last happened."""

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
        """Return after how long `look` has something to say, if nothing happens until then; None: never."""
        if next_deadline(view) is not None or any(slot.run is not None for slot in view.slots):
            return None
        if view.grant is not None and not any(slot.busy for slot in view.slots):
            return None  # other machines have what there is
        if view.presence.away and not any(slot.busy for slot in view.slots):
            return None  # the owners of devices have them for as long as they like
        return max(0.0, self._moved_at + STILL_S - self._clock())

    def look(self, view: SweepView) -> bool:
        """Say it where the sweep stands still; True: have the workers write their stacks, too."""
        if self.due_in_s(view) != 0.0:
            return False
        self.moved()
        words = f"nothing has happened for {STILL_S:g} s and no run is on; the stacks of our processes are in"
        self._observer(Message(f"{words} {self._folder / STACKS} and the workers' logs", warning=True))
        # Where that fails (no room, no descriptor), it may be what everything waits for.
        with suppress(OSError), (self._folder / STACKS).open("a") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        return True


@dataclass(frozen=True, slots=True)
class LoopContext:
    """What the loop acts with; `clock` gives monotonic seconds, `jitter` numbers in [0, 1)."""

    children: ChildPool
    recorder: Recorder
    server_calls: ServerCalls
    pump: OutputPump
    memory: MemoryWatch
    control: Control
    mailbox: CommandPipe
    patience: StopAware
    standstill: StallDetector
    siblings: OtherLaunches
    aftermath: FailureHandler
    observer: Observer
    make_spec: Callable[[SlotView, str], WorkerSpec]
    """The spec of a slot's next worker, given its label."""
    devices: DeviceWatch
    meter: Meter
    mark: str
    clock: Callable[[], float]
    jitter: Callable[[], float]
    membership: Membership | None = None
    """This machine's part in the sweep's pool; None: it has the sweep for itself."""

    def tell_pool(self, view: SweepView) -> None:
        """Say what could be used here by now."""
        if self.membership is not None:
            self.membership.publish(needs(view, self.clock()))


@dataclass(slots=True)
class LivingWorker:
    """A slot's living worker, as the loop handles it."""

    slot: Slot
    child: Child
    label: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    heard_out: bool = field(default=False)
    """Its pipe is at its end; its death is yet to be reported."""


MEASURE_EVERY_S: Final = 0.5
"""A leak of 1 GB/s passes a memory limit by half of that; reading a tree's memory takes a millisecond."""


class Measurements:
    """Looks where a limit, or devices that are shared by their memory, ask for it."""

    def __init__(self, view: SweepView, tools: LoopContext) -> None:
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
