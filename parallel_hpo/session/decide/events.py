"""Events, which the loop makes and `decide` takes; actions, which `decide` returns and the loop performs in
order."""

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
    """A worker sent a report."""

    slot: Slot
    report: Report


@dataclass(frozen=True, slots=True)
class Delivered:
    """A slot's agent got a run that the ledger knows. It doesn't count as new: the server has not received
    its end, or wants another attempt."""

    slot: Slot
    report: RunStarted
    attempts: int
    """Number of its last attempt."""
    outcome: Outcome | None
    """None: it has not ended, or will be resumed."""
    seed: int | None = None
    """The seed of its attempts so far."""


@dataclass(frozen=True, slots=True)
class Died:
    """A worker's process tree has ended; `cause` names the death: SIGKILL, exit 3."""

    slot: Slot
    cause: str
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class SpawnDenied:
    """The system had no process, descriptor or memory for the slot's worker; `reason` is for the user."""

    slot: Slot
    reason: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A signal or the user's code asks the sweep to end."""

    kind: StopKind
    reason: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class SweepSeen:
    """The server's answer about the sweep's state: `over` says why it has ended, empty while it goes on."""

    over: str


@dataclass(frozen=True, slots=True)
class PoolAnswered:
    """The sweep's count has answered what this machine may do."""

    answer: Granted


@dataclass(frozen=True, slots=True)
class StartGranted:
    """The attempt that waits in a slot has been counted: it may start."""

    slot: Slot
    run_id: RunId


@dataclass(frozen=True, slots=True)
class StartRefused:
    """The count refused the start of the slot's run; `reason` says why."""

    slot: Slot
    run_id: RunId
    reason: str


@dataclass(frozen=True, slots=True)
class OutputSeen:
    """The slot's process tree printed something."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class MemorySeen:
    """Memory of the slot's process tree, in MB."""

    slot: Slot
    used_mb: float


@dataclass(frozen=True, slots=True)
class ScaleAsked:
    """Another terminal changes the number of workers."""

    workers: int


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """Another terminal drains the slot's worker: it finishes its run and leaves for good."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline of the view has passed."""


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
class AskStart:
    """Ask the sweep's count whether an attempt may start; StartGranted or StartRefused follows."""

    slot: Slot
    run: OpenRun


@dataclass(frozen=True, slots=True)
class WithdrawStart:
    """Withdraw an `AskStart`: the attempt does not start."""

    run: OpenRun


@dataclass(frozen=True, slots=True)
class RecordEnd:
    """Report to the count that an attempt ended; `final`: and its run."""

    slot: Slot
    run: OpenRun
    end: AttemptEnd
    final: bool
    died: bool
    """The worker died: the server has not received the end."""


@dataclass(frozen=True, slots=True)
class RecordDrop:
    """Report to the count that a run waiting for another attempt gets none here."""

    run: OpenRun
    end: AttemptEnd


@dataclass(frozen=True, slots=True)
class RecordQuarantine:
    """Record that a device is in quarantine."""

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
    """Write the stack of every thread of the slot's worker into its log."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class ReportEnd:
    """Report a run's end to the server for its process, and upload the run's offline data."""

    run_id: RunId
    outcome: Outcome | None
    """None: the server knows it already."""
    unsent: tuple[str, ...] = ()
    """Folders of its offline data."""


@dataclass(frozen=True, slots=True)
class ReturnRuns:
    """Return runs that the slot's dead worker did not start to the server, except `keep`, which we requeue
    here."""

    slot: Slot
    keep: RunId | None = None


@dataclass(frozen=True, slots=True)
class AwaitDevice:
    """Wait until the device memory of the slot's dead worker is free; DeviceClear follows."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class AskSweep:
    """Ask the server for the sweep's state; SweepSeen follows."""


@dataclass(frozen=True, slots=True)
class Notify:
    """Pass a notice on to the user's display."""

    notice: Notice


Action = (
    AskStart
    | WithdrawStart
    | RecordEnd
    | RecordDrop
    | RecordQuarantine
    | Spawn
    | Send
    | Kill
    | DumpStacks
    | ReportEnd
    | ReturnRuns
    | AwaitDevice
    | AskSweep
    | Notify
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The view that follows from an event, and the actions in their order."""

    view: SweepView
    actions: tuple[Action, ...]
