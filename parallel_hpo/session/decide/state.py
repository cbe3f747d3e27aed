"""What the supervisor knows of a running sweep: plain frozen values, and when time changes them.

The view holds open runs only (ended ones are in the ledger), so that a decision
costs the same in a sweep of any length. `decide` alone makes new views.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from parallel_hpo.core.messages import StartFailed, SweepEnd
from parallel_hpo.core.types import Parameters, RunId, Slot, SlotState
from parallel_hpo.count.policy import FailureCount, FailureLimits, RestartLimits
from parallel_hpo.devices.health import FaultRule, Health
from parallel_hpo.devices.sharing import DevicePresence, Occupancy
from parallel_hpo.session.decide.transitions import ALIVE, TERMINAL

SILENT_S: Final = 90.0
"""A worker that has work, starts no run, and of whose agent nothing is heard for so long is replaced:
a living agent beats every 5 s, and its worker says so every 10; a beat without an answer ends after 60 s."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration allows; fixed for the whole sweep."""

    count: int | None
    retries: int = 1
    grace_s: float = 30.0
    restart: RestartLimits = field(default_factory=RestartLimits)
    failures: FailureLimits = field(default_factory=FailureLimits)
    run_timeout_s: float | None = None
    sweep_timeout_s: float | None = None
    deadline: str | None = None
    """In the user's words."""
    stall_timeout_s: float | None = None
    memory_limit_mb: int | None = None
    recycle_after: int | None = None
    workers_per_device: int = 1
    seed: int | None = None
    """The sweep's own; None: runs have none."""
    faults: tuple[FaultRule, ...] = ()
    """The user's own, tried before the built-in ones."""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has started and not ended: in a worker, or waiting to be run again."""

    run_id: RunId
    parameters: Parameters
    attempt: int
    since: float
    """When its running attempt started, monotonic seconds."""
    spent_s: float = 0.0
    """What its earlier attempts took."""
    deaths: int = 0
    preemptions: int = 0
    """How often it has marked itself as preempting and left."""
    seed: int | None = None
    """Its own, of all its attempts; None: the sweep has none."""
    alone_on: str = ""
    """The device that it is to have alone, having found too little memory there beside others; else empty."""


@dataclass(frozen=True, slots=True)
class PendingStart:
    """A start that the pool has been asked for: the run enters `main` once the pool has counted it."""

    run: OpenRun
    new: bool
    """The run counts as one of the sweep's; else it was known before."""
    leased: bool
    """It is one of the slot's lease; else the slot was told to run it again."""


@dataclass(frozen=True, slots=True)
class CutShort:
    """Why a running run is being ended by us, though the sweep goes on."""

    reason: str
    failed: bool
    """It has failed, and is performed; else its worker is killed as if it had died by itself."""


@dataclass(frozen=True, slots=True)
class SlotView:
    """One worker's place."""

    slot: Slot
    device: str = ""
    """Its devices as a worker's mask has them; empty: it computes on the processor."""
    soiled: bool = False
    """Its last worker's memory on its devices may not be free yet."""
    state: SlotState = SlotState.STOPPED
    busy: bool = False
    """It holds a lease or a run that it was told to run again."""
    lease_left: int = 0
    """Runs of its lease that it has not started."""
    run: OpenRun | None = None
    """What is inside `main` there."""
    assigned: OpenRun | None = None
    """What it was told to run again and has not started."""
    pending: PendingStart | None = None
    """What waits there for the pool's answer; it stays where the worker dies meanwhile."""
    fault: StartFailed | None = None
    """What kept its worker from becoming ready."""
    cut: CutShort | None = None
    active_at: float = 0.0
    """When its run was last seen to do something."""
    performed: int = 0
    """Runs that its present process has been through."""
    replacing: bool = False
    """Its worker leaves to be replaced by a fresh one."""
    denied: int = 0
    """How often in a row the system had no process for it."""
    restarts: tuple[float, ...] = ()
    spawn_at: float | None = None
    kill_at: float | None = None
    lease_at: float | None = None
    """Not before this is it given another lease."""
    idle_returns: int = 0
    """How often in a row its agent returned without a run, though the sweep goes on."""

    @property
    def alive(self) -> bool:
        """Whether the slot has a process."""
        return self.state in ALIVE

    @property
    def held(self) -> tuple[OpenRun, ...]:
        """The run that the slot holds, running or not yet started; at most one."""
        pending = None if self.pending is None else self.pending.run
        return tuple(run for run in (self.run, self.assigned, pending) if run is not None)

    @property
    def over(self) -> bool:
        """Whether the slot will never have a process again."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class PoolGrant:
    """What a sweep's pool lets this machine do, by its last answer."""

    granted: int = 0
    """New runs that may have started here in all."""
    each: int = 1
    """So many an idle worker is given at a time, at most."""
    handed: frozenset[RunId] = frozenset()
    """Runs that are to be run again here, and have not started."""


@dataclass(frozen=True, slots=True)
class SweepView:
    """All that a decision rests on."""

    limits: Limits
    slots: tuple[SlotView, ...]
    started: int = 0
    """Distinct runs that have entered `main`."""
    reruns: tuple[OpenRun, ...] = ()
    """Runs cut short that wait for a worker."""
    failures: FailureCount = field(default_factory=FailureCount)
    devices: tuple[str, ...] = ()
    """What slots get in turn; empty: there are none."""
    health: Health = field(default_factory=Health)
    presence: DevicePresence = field(default_factory=DevicePresence)
    end_at: float | None = None
    """When the sweep's own time is over."""
    deadline_at: float | None = None
    """Before this all runs are to end; None: there is no deadline."""
    took: tuple[float, ...] = ()
    """How long the latest runs took, in seconds; () also where nobody needs to know."""
    told_too_late: bool = False
    """The user knows that no run starts any more that would not end before the deadline."""
    start_deaths: tuple[str, ...] = ()
    last_death: str = ""
    """What the last worker died of."""
    loadable: bool = False
    """A worker has become ready, so that what keeps another from it is no fault of every worker's."""
    exhausted: str = ""
    """Why the sweep gives no more runs; empty: it may."""
    complaint: str = ""
    """What an agent said when it returned early, until it is known whether the sweep is over."""
    asking: bool = False
    """The sweep's state has been asked for, the answer not come."""
    look_from: float = 0.0
    """Not before this is it looked again at what workers without a run wait for."""
    told_of_metric: bool = False
    """A run has finished without a value of the sweep's metric, and the user knows."""
    ending: SweepEnd | None = None
    occupancy: Occupancy | None = None
    """Set where as many workers share a device as its memory holds."""
    grant: PoolGrant | None = None
    """Set where the sweep's runs are drawn from a pool, which alone knows when it is over."""


def open_view(limits: Limits, workers: int, *, devices: tuple[str, ...] = (), **known: Any) -> SweepView:
    """Return the view of a sweep that has not begun, or that goes on with what is `known` of it."""
    names = devices or ("",)
    slots = tuple(SlotView(slot=Slot(n), device=names[n % len(names)]) for n in range(workers))
    return SweepView(limits=limits, slots=slots, devices=devices, **known)


def is_over(view: SweepView) -> bool:
    """Return whether no process is left and none will come."""
    return all(slot.over for slot in view.slots)


def next_deadline(view: SweepView) -> float | None:
    """Return when TimePassed is due, in monotonic seconds; None: only another event can change anything."""
    times = [at for slot in view.slots for at in (slot.spawn_at, slot.kill_at, slot.lease_at)]
    times += [
        at
        for slot in view.slots
        for at in (run_ends_at(view, slot), stalls_at(view, slot), silent_from(slot))
    ]
    if view.ending is None:
        times += [view.end_at, view.deadline_at, *view.presence.back_at.values()]
    return min((at for at in times if at is not None), default=None)


def run_ends_at(view: SweepView, slot: SlotView) -> float | None:
    """Return when the slot's run is past its time; None: it has no run, or as much time as it likes."""
    if view.limits.run_timeout_s is None or slot.run is None or slot.cut is not None:
        return None
    return slot.run.since + view.limits.run_timeout_s


def stalls_at(view: SweepView, slot: SlotView) -> float | None:
    """Return when the slot's run has stalled, unless it is seen to do something before."""
    if view.limits.stall_timeout_s is None or slot.run is None or slot.cut is not None:
        return None
    return slot.active_at + view.limits.stall_timeout_s


def silent_from(slot: SlotView) -> float | None:
    """Return when the slot's worker, which was given work and starts none, is taken for stuck."""
    if slot.state is not SlotState.RUNNING or not slot.busy or slot.run or slot.pending:
        return None
    return slot.active_at + SILENT_S
