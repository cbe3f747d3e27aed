"""What the supervisor knows, what can happen to it, and what it can do: plain frozen values.

`decide` turns (SweepView, Event, now) into a new view and Actions; `loop` alone
makes events and performs actions. The view holds open runs only (ended ones are
in the ledger), so that a decision costs the same in a sweep of any length.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from parallel_hpo.lifecycle import ALIVE, TERMINAL
from parallel_hpo.policy.restart import RestartLimits
from parallel_hpo.words import (
    Notice,
    Order,
    Outcome,
    Parameters,
    Report,
    RunId,
    Slot,
    SlotState,
    StartFailed,
    StopKind,
)

# --- the view ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration allows; fixed for the whole sweep."""

    count: int | None
    retries: int = 1
    grace_s: float = 30.0
    restart: RestartLimits = field(default_factory=RestartLimits)


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


@dataclass(frozen=True, slots=True)
class SlotView:
    """One worker's place."""

    slot: Slot
    state: SlotState = SlotState.STOPPED
    busy: bool = False
    """It holds a lease or a run that it was told to run again."""
    lease_left: int = 0
    """Runs of its lease that it has not started."""
    run: OpenRun | None = None
    """What is inside `main` there."""
    assigned: OpenRun | None = None
    """What it was told to run again and has not started."""
    fault: StartFailed | None = None
    """What kept its worker from becoming ready."""
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
    def over(self) -> bool:
        """Whether the slot will never have a process again."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the sweep's processes leave, and with which exit code."""

    reason: str
    exit_code: int
    stop: StopKind | None = None
    """None: nothing is left to do."""


@dataclass(frozen=True, slots=True)
class SweepView:
    """All that a decision rests on."""

    limits: Limits
    slots: tuple[SlotView, ...]
    started: int = 0
    """Distinct runs that have entered `main`."""
    reruns: tuple[OpenRun, ...] = ()
    """Runs cut short that wait for a worker."""
    finished: int = 0
    start_deaths: tuple[str, ...] = ()
    exhausted: str = ""
    """Why the sweep gives no more runs; empty: it may."""
    asking: bool = False
    """The sweep's state has been asked for, the answer not come."""
    ending: Ending | None = None


# --- events -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """The sweep exists: let the workers start."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker said something."""

    slot: Slot
    report: Report


@dataclass(frozen=True, slots=True)
class Died:
    """A worker's process tree is gone; `cause` names the death: SIGKILL, exit 3."""

    slot: Slot
    cause: str
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A signal or the user's code asks the sweep to end."""

    kind: StopKind
    reason: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class SweepSeen:
    """The server's answer to what became of the sweep: `over` is empty while it goes on."""

    over: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline of the view has come."""


Event = Opened | Reported | Died | StopAsked | SweepSeen | TimePassed

# --- actions ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordStart:
    """Write into the ledger, before `main` is entered, that an attempt starts."""

    slot: Slot
    run: OpenRun


@dataclass(frozen=True, slots=True)
class RecordEnd:
    """Write into the ledger that an attempt ended; `final`: and the run with it."""

    slot: Slot
    run: OpenRun
    outcome: Outcome
    reason: str
    value: float | None
    duration_s: float
    final: bool
    died: bool
    """The worker died: the server has not heard of the end."""
    resumable: bool = False


@dataclass(frozen=True, slots=True)
class RecordDrop:
    """Write into the ledger that a run which waited for another attempt gets none."""

    run: OpenRun
    outcome: Outcome
    reason: str
    resumable: bool


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker process in the slot."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Send:
    """Send the slot's worker an order."""

    slot: Slot
    order: Order


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill the slot's process tree."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Have the server take back what it issued to the slot's dead worker and nobody started.

    All but `keep`, the run that we know of and deal with ourselves.
    """

    slot: Slot
    keep: RunId | None = None


@dataclass(frozen=True, slots=True)
class AskSweep:
    """Ask the server what became of the sweep; SweepSeen follows."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Pass a notice on to whoever watches."""

    notice: Notice


Action = RecordStart | RecordEnd | RecordDrop | Spawn | Send | Kill | GiveBack | AskSweep | Tell


@dataclass(frozen=True, slots=True)
class Decision:
    """The view that follows from an event, and what is to be done, in this order."""

    view: SweepView
    actions: tuple[Action, ...]


def open_view(limits: Limits, workers: int) -> SweepView:
    """Return the view of a sweep that has not begun."""
    return SweepView(limits=limits, slots=tuple(SlotView(slot=Slot(n)) for n in range(workers)))


def is_over(view: SweepView) -> bool:
    """Return whether no process is left and none will come."""
    return all(slot.over for slot in view.slots)


def next_deadline(view: SweepView) -> float | None:
    """Return when TimePassed is due, in monotonic seconds; None: only another event can change anything."""
    times = (at for slot in view.slots for at in (slot.spawn_at, slot.kill_at, slot.lease_at))
    return min((at for at in times if at is not None), default=None)
