"""What the session knows of a running sweep, as frozen values, the deadlines in it, and a slot's legal moves.

The view holds open runs only (ended ones are in the ledger), so that a decision costs the same in a sweep of
any length. Only `decide` makes new views. A missing pair in the table of moves is illegal: `move` raises and
nothing changes. A late message is a listed move to the same state. The states have Supervisor's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from parallel_hpo.core.messages import StartFailed, SweepEnd
from parallel_hpo.core.pool_messages import PooledRun
from parallel_hpo.core.types import RunId, Slot, SlotState
from parallel_hpo.core.types import SlotState as State
from parallel_hpo.count.policy import RestartLimits
from parallel_hpo.devices.health import FaultRule, Health
from parallel_hpo.devices.sharing import DevicePresence, Occupancy


class Move(StrEnum):
    """What can happen to a slot."""

    SPAWN = "spawn"
    """A worker process starts in it."""
    DENIED = "be denied a process"
    """The system had no process or descriptor for its worker."""
    READY = "ready"
    """Its worker has loaded `main` and waits for orders."""
    LEAVE = "leave"
    """Its worker got the order to leave, or the sweep needs no worker here."""
    DIED = "died"
    """Its worker's process tree has ended."""
    REPLACED = "be replaced"
    """Its process tree has ended as intended, and another process follows."""
    GIVE_UP = "give up"
    """Its restart budget is spent."""


class IllegalMove(Exception):
    """A move that the table does not list: a bug of this package."""


MOVES: Final[Mapping[tuple[State, Move], State]] = {
    (State.STOPPED, Move.SPAWN): State.STARTING,
    (State.STOPPED, Move.LEAVE): State.EXITED,
    (State.STARTING, Move.DENIED): State.STOPPED,
    (State.STARTING, Move.READY): State.RUNNING,
    (State.STARTING, Move.LEAVE): State.STOPPING,
    (State.STARTING, Move.DIED): State.BACKOFF,
    (State.RUNNING, Move.LEAVE): State.STOPPING,
    (State.RUNNING, Move.DIED): State.BACKOFF,
    (State.BACKOFF, Move.SPAWN): State.STARTING,
    (State.BACKOFF, Move.LEAVE): State.EXITED,
    (State.BACKOFF, Move.GIVE_UP): State.FATAL,
    (State.STOPPING, Move.DENIED): State.EXITED,
    (State.STOPPING, Move.READY): State.STOPPING,
    (State.STOPPING, Move.LEAVE): State.STOPPING,
    (State.STOPPING, Move.DIED): State.EXITED,
    (State.STOPPING, Move.REPLACED): State.STOPPED,
    (State.EXITED, Move.LEAVE): State.EXITED,
    (State.FATAL, Move.LEAVE): State.FATAL,
}

TERMINAL: Final = frozenset(State) - {old for (old, _), new in MOVES.items() if new is not old}
"""States that a slot never leaves."""

ALIVE: Final = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
"""States in which the slot has a process."""


def move(state: State, what: Move) -> State:
    """Return the state after a move.

    Raises:
        IllegalMove: the table has no such move.
    """
    try:
        return MOVES[state, what]
    except KeyError:
        raise IllegalMove(f"a slot that is {state.value} can't {what.value}") from None


SILENT_S: Final = 90.0
"""Timeout in seconds of a worker that has work but starts no run, after its agent's last sign of life. A
living agent sends a heartbeat every 5 s, its worker reports it every 10 s, and an unanswered one ends after
60 s."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of workers and runs, fixed for the whole sweep; limits of the sweep are its count's."""

    retries: int = 1
    grace_s: float = 30.0
    restart: RestartLimits = field(default_factory=RestartLimits)
    run_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    memory_limit_mb: int | None = None
    recycle_after: int | None = None
    workers_per_device: int = 1
    seed: int | None = None
    """The sweep's seed; None: its runs have none."""
    faults: tuple[FaultRule, ...] = ()
    """The user's rules, tried before the built-in ones."""


@dataclass(frozen=True)
class OpenRun(PooledRun):
    """A run that has started and not ended: in a worker, or waiting for another attempt."""

    since: float = 0.0
    """Start of its present attempt, in monotonic seconds."""
    exclusive_on: str = ""
    """The device that it needs exclusively, after running out of memory there beside others; else empty."""


@dataclass(frozen=True, slots=True)
class PendingStart:
    """A start that waits for the count: the run enters `main` once it is counted."""

    run: OpenRun
    new: bool
    """The run counts as new; else it was known before."""
    leased: bool
    """It belongs to the slot's lease; else it is another attempt."""


@dataclass(frozen=True, slots=True)
class CutShort:
    """Why we end an active run though the sweep goes on."""

    reason: str
    failed: bool
    """The run counts as failed; else as one whose worker died."""


@dataclass(frozen=True)
class SlotView:
    """One slot and its worker."""

    slot: Slot
    device: str = ""
    """Its devices, as in the worker's mask; empty: it computes on the CPU."""
    memory_not_released: bool = False
    """Device memory of its last worker may not be free yet."""
    state: SlotState = SlotState.STOPPED
    busy: bool = False
    """It has a lease, or another attempt of a run."""
    lease_left: int = 0
    """Runs of its lease not started yet."""
    run: OpenRun | None = None
    """The run inside `main`."""
    assigned: OpenRun | None = None
    """The run that it was given for another attempt, not started yet."""
    pending: PendingStart | None = None
    """The start that waits for the count's answer; it stays if the worker dies."""
    fault: StartFailed | None = None
    """Why its worker could not become ready."""
    cut: CutShort | None = None
    active_at: float = 0.0
    """Time of its run's last activity."""
    completed: int = 0
    """Runs completed by its present process."""
    replacing: bool = False
    """Its worker leaves, and a new one follows."""
    denied: int = 0
    """Denied spawns in a row."""
    restarts: tuple[float, ...] = ()
    spawn_at: float | None = None
    kill_at: float | None = None
    lease_at: float | None = None
    """Earliest time of its next lease."""
    idle_returns: int = 0
    """Times in a row that its agent returned without a run, though the sweep goes on."""

    @property
    def alive(self) -> bool:
        """Return whether the slot has a process."""
        return self.state in ALIVE

    @property
    def held(self) -> tuple[OpenRun, ...]:
        """Return the slot's run, active or not yet started; at most one."""
        pending = None if self.pending is None else self.pending.run
        return tuple(run for run in (self.run, self.assigned, pending) if run is not None)

    @property
    def is_terminal(self) -> bool:
        """Return whether the slot will never have a process again."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class PoolGrant:
    """What the count allows this machine, by its last answer."""

    granted: int = 0
    """New runs that may start here in total."""
    max_lease: int = 1
    """Maximum lease of an idle worker."""
    assigned: frozenset[RunId] = frozenset()
    """Requeued runs assigned to this machine, not started yet."""
    held: str = ""
    """Why no run may start now, such as a deadline; empty: runs may start."""


@dataclass(frozen=True)
class SweepView:
    """All facts that decisions use."""

    limits: Limits
    slots: tuple[SlotView, ...]
    started: int = 0
    """Distinct runs that have entered `main` here as new ones."""
    reruns: tuple[OpenRun, ...] = ()
    """Runs that wait for another attempt."""
    devices: tuple[str, ...] = ()
    """Devices, given to slots in turn; may be empty."""
    health: Health = field(default_factory=Health)
    presence: DevicePresence = field(default_factory=DevicePresence)
    start_deaths: tuple[str, ...] = ()
    last_death: str = ""
    """Cause of the last death."""
    loadable: bool = False
    """A worker has become ready, so a failing start isn't common to all workers."""
    exhausted: str = ""
    """Why the sweep gives no more runs; empty: it may give some."""
    agent_error: str = ""
    """Error of an agent that returned early, kept until we know whether the sweep has ended."""
    asking: bool = False
    """A question for the sweep's state is open."""
    missing_metric_announced: bool = False
    """The user knows that a run finished without the sweep's metric."""
    ending: SweepEnd | None = None
    occupancy: Occupancy | None = None
    """Set if workers share devices by memory."""
    grant: PoolGrant = field(default_factory=PoolGrant)
    """What may start here; only the count knows when the sweep has ended."""
    has_others: bool = False
    """Other machines may run what this one leaves."""


def open_view(limits: Limits, workers: int, *, devices: tuple[str, ...] = (), **known: Any) -> SweepView:
    """Return the view of a session's start, with these `known` fields."""
    names = devices or ("",)
    slots = tuple(SlotView(slot=Slot(n), device=names[n % len(names)]) for n in range(workers))
    return SweepView(limits=limits, slots=slots, devices=devices, **known)


def is_finished(view: SweepView) -> bool:
    """Return whether no process is left and none will come."""
    return all(slot.is_terminal for slot in view.slots)


def next_deadline(view: SweepView) -> float | None:
    """Return when TimePassed is due, in monotonic seconds; None: only other events can change the view."""
    times = [at for slot in view.slots for at in (slot.spawn_at, slot.kill_at, slot.lease_at)]
    times += [
        at
        for slot in view.slots
        for at in (run_ends_at(view, slot), stalls_at(view, slot), silent_from(slot))
    ]
    if view.ending is None:
        times += view.presence.back_at.values()
    return min((at for at in times if at is not None), default=None)


def run_ends_at(view: SweepView, slot: SlotView) -> float | None:
    """Return when the slot's run exceeds its timeout; None: no run, or no timeout."""
    if view.limits.run_timeout_s is None or slot.run is None or slot.cut is not None:
        return None
    return slot.run.since + view.limits.run_timeout_s


def stalls_at(view: SweepView, slot: SlotView) -> float | None:
    """Return when the slot's run counts as stalled, unless there is activity before."""
    if view.limits.stall_timeout_s is None or slot.run is None or slot.cut is not None:
        return None
    return slot.active_at + view.limits.stall_timeout_s


def silent_from(slot: SlotView) -> float | None:
    """Return when the slot's worker, which has work but no run, counts as stuck."""
    if slot.state is not SlotState.RUNNING or not slot.busy or slot.run or slot.pending:
        return None
    return slot.active_at + SILENT_S
