"""What can happen to a sweep: the loop makes these, `decide` takes them.

What the supervisor can do: `decide` returns these, the loop performs them in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

from parallel_hpo.core.messages import AttemptEnd, Order, Report, RunStarted
from parallel_hpo.core.notices import Notice
from parallel_hpo.core.pool_messages import Granted
from parallel_hpo.core.types import Outcome, RunId, Slot, StopKind
from parallel_hpo.devices.health import DeviceClear
from parallel_hpo.devices.sharing import DeviceMemorySeen, OtherUsersSeen
from parallel_hpo.session.decide.state import OpenRun, SweepView


@dataclass(frozen=True, slots=True)
class Opened:
    """The sweep exists: let the workers start."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker said something."""

    slot: Slot
    report: Report


@dataclass(frozen=True, slots=True)
class Delivered:
    """A slot's agent was given a run that the ledger knows: the server has not heard of its end, or wants
    another attempt of it. None of the new runs of a count."""

    slot: Slot
    report: RunStarted
    attempts: int
    """Those that the ledger has of it."""
    outcome: Outcome | None
    """How it ended; None: it has not, or is to be resumed."""
    seed: int | None = None
    """That which it had."""


@dataclass(frozen=True, slots=True)
class Died:
    """A worker's process tree is gone; `cause` names the death: SIGKILL, exit 3."""

    slot: Slot
    cause: str
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class SpawnDenied:
    """The system had no process, descriptor or room for the slot's worker; `why` in words."""

    slot: Slot
    why: str


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
class PoolAnswered:
    """The sweep's pool has said what this machine may do."""

    answer: Granted


@dataclass(frozen=True, slots=True)
class StartGranted:
    """The pool has counted the attempt that waits in a slot: it may start."""

    slot: Slot
    run_id: RunId


@dataclass(frozen=True, slots=True)
class StartDelayed:
    """The record of a slot's start had to wait: the run enters `main` only now."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class StartRefused:
    """The pool does not let the run start that the slot's worker was about to; `why` in its words."""

    slot: Slot
    run_id: RunId
    why: str


@dataclass(frozen=True, slots=True)
class OutputSeen:
    """The slot's process tree printed something."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class MemorySeen:
    """The slot's process tree holds so much memory."""

    slot: Slot
    used_mb: float


@dataclass(frozen=True, slots=True)
class ScaleAsked:
    """Another terminal wants so many workers from now on."""

    workers: int


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """Another terminal wants the slot's worker to finish its run and leave for good."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline of the view has come."""


Event = (
    Opened
    | Reported
    | Delivered
    | Died
    | SpawnDenied
    | StopAsked
    | SweepSeen
    | PoolAnswered
    | StartGranted
    | StartRefused
    | StartDelayed
    | OutputSeen
    | MemorySeen
    | DeviceMemorySeen
    | DeviceClear
    | OtherUsersSeen
    | ScaleAsked
    | DrainAsked
    | TimePassed
)


@dataclass(frozen=True, slots=True)
class RecordStart:
    """Write into the ledger, before `main` is entered, that an attempt starts."""

    slot: Slot
    run: OpenRun


@dataclass(frozen=True, slots=True)
class AskStart:
    """Ask the sweep's pool whether an attempt may start; StartGranted or StartRefused follows."""

    slot: Slot
    run: OpenRun


@dataclass(frozen=True, slots=True)
class WithdrawStart:
    """Tell the pool that an attempt which it was asked for does not start."""

    run: OpenRun


@dataclass(frozen=True, slots=True)
class RecordEnd:
    """Write into the ledger that an attempt ended; `final`: and the run with it."""

    slot: Slot
    run: OpenRun
    end: AttemptEnd
    final: bool
    died: bool
    """The worker died: the server has not heard of the end."""


@dataclass(frozen=True, slots=True)
class RecordDrop:
    """Write into the ledger that a run which waited for another attempt gets none."""

    run: OpenRun
    end: AttemptEnd


@dataclass(frozen=True, slots=True)
class RecordQuarantine:
    """Write into the ledger that a device gets no runs for a while."""

    device: str
    reason: str


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
class DumpStacks:
    """Have the stack of every thread of the slot's worker written into its log."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class TellEnd:
    """Have the server told of a run's end that its process has not told, and sent what it wrote offline."""

    run_id: RunId
    outcome: Outcome | None
    """None: it has been told."""
    unsent: tuple[str, ...] = ()
    """The folders of what it wrote offline."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Have the server take back what it issued to the slot's dead worker and nobody started.

    All but `keep`, the run that we know of and deal with ourselves.
    """

    slot: Slot
    keep: RunId | None = None


@dataclass(frozen=True, slots=True)
class AwaitDevice:
    """Wait until what the slot's dead worker held on its devices is free; DeviceClear follows."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class AskSweep:
    """Ask the server what became of the sweep; SweepSeen follows."""


@dataclass(frozen=True, slots=True)
class CheckAwaitedRuns:
    """See what workers without a run wait for: it may be what a killed sibling share left."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Pass a notice on to whoever watches."""

    notice: Notice


Action = (
    RecordStart
    | AskStart
    | WithdrawStart
    | RecordEnd
    | RecordDrop
    | RecordQuarantine
    | Spawn
    | Send
    | Kill
    | DumpStacks
    | TellEnd
    | GiveBack
    | AwaitDevice
    | AskSweep
    | CheckAwaitedRuns
    | Tell
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The view that follows from an event, and what is to be done, in this order."""

    view: SweepView
    actions: tuple[Action, ...]
