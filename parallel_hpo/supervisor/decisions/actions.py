"""What the supervisor can do: `decide` returns these, the loop performs them in their order."""

from __future__ import annotations

from dataclasses import dataclass

from parallel_hpo.notices import Notice
from parallel_hpo.protocol.ends import AttemptEnd
from parallel_hpo.protocol.messages import Order
from parallel_hpo.supervisor.decisions.view import OpenRun, SweepView
from parallel_hpo.words import Outcome, RunId, Slot


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
class LookAtAwaited:
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
    | LookAtAwaited
    | Tell
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The view that follows from an event, and what is to be done, in this order."""

    view: SweepView
    actions: tuple[Action, ...]
