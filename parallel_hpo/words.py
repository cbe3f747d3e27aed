"""The words that rooms say to one another: ids, states, orders, reports, notices.

Orders go from the supervisor to a worker, reports come back, both pickled over
one pipe. Notices go from the supervisor to whoever watches it (`ui`). All are
frozen; none does anything. Imports nothing of the package. See "Words" in the
README for what each term means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

RunId = NewType("RunId", str)
SweepId = NewType("SweepId", str)
Slot = NewType("Slot", int)
Parameters = Mapping[str, Any]

NEVER_INITIALISED = "main never called wandb.init()"
"""The reason of a run whose `main` returned without telling any server of it."""
DISABLED = "wandb was disabled in main: nothing of the run was recorded"
"""The same where it did so by a mode of wandb's."""


class Outcome(StrEnum):
    """How a run ended; the README's "What counts" defines each."""

    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    CRASHED = "crashed"


class SlotState(StrEnum):
    """Where a worker's slot is in its life (the names are those of Supervisor)."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    EXITED = "exited"
    FATAL = "fatal"


class StopKind(StrEnum):
    """What is asked of a sweep that ends early."""

    DRAIN = "drain"
    """Let the running runs finish, start none."""
    INTERRUPT = "interrupt"
    """Raise KeyboardInterrupt in each running `main`."""
    PREEMPT = "preempt"
    """Interrupt, and mark the runs as preempting."""
    KILL = "kill"
    """Kill the process trees at once."""


@dataclass(frozen=True, slots=True)
class Target:
    """A `main` given by name: `file` is a module's dotted name or a path ending in `.py`."""

    file: str
    function: str
    argv: tuple[str, ...] = ()
    """What the target finds in `sys.argv[1:]`."""

    def __str__(self) -> str:
        return f"{self.file}:{self.function}"


@dataclass(frozen=True, slots=True)
class Program:
    """A `main` that is a program of its own: a sweep's `program` and `command`, as W&B has them."""

    file: str
    command: tuple[str, ...] = ()
    """Words and macros; empty: W&B's default."""

    def __str__(self) -> str:
        return self.file or " ".join(self.command)


@dataclass(frozen=True, slots=True)
class SweepPath:
    """Where a sweep is: W&B's entity, project and sweep id."""

    entity: str
    project: str
    sweep_id: SweepId

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.sweep_id}"


# --- orders: supervisor → worker -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """Start up to `count` new runs, one after another; None: until the sweep says it is over."""

    count: int | None


@dataclass(frozen=True, slots=True)
class Rerun:
    """Run a dead worker's run again, as its `attempt`-th attempt."""

    run_id: RunId
    parameters: Parameters
    attempt: int


@dataclass(frozen=True, slots=True)
class Proceed:
    """The start of `run_id` is recorded, as its `attempt`-th attempt: call `main`."""

    run_id: RunId
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Settle:
    """Don't call `main` for this run, which was performed already or is on elsewhere.

    `exit_code`: it was performed, and its server has not heard of its end: close it there so. None:
    leave it alone.
    """

    run_id: RunId
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what runs, start nothing more, and leave."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Raise KeyboardInterrupt in `main`, start nothing more, and leave."""

    preempting: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """Raise KeyboardInterrupt in the `main` of this run, which fails for that reason; stay for the next."""

    run_id: RunId
    reason: str


Order = Lease | Rerun | Proceed | Settle | Drain | Interrupt | Cut


# --- reports: worker → supervisor ------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has unpickled `main` and waits for its first order."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The worker can't start; it would fail so in every slot."""

    cause: str
    traceback: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run is about to enter `main`; the worker waits for `Proceed`, or `Settle`."""

    run_id: RunId
    parameters: Parameters
    attempt: int


@dataclass(frozen=True, slots=True)
class MissingMetric:
    """A run finished without a number as the metric: what was `found` there, and the names `logged`."""

    found: str
    logged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run has left `main` and its W&B run is closed."""

    run_id: RunId
    attempt: int
    outcome: Outcome
    reason: str
    value: float | None
    """The sweep's metric as the run's summary has it; None where it has none."""
    resumable: bool = False
    """It was stopped by us, not by the sweep: a resumed sweep runs it again."""
    preempted: bool = False
    """It marked itself as preempting and left with an error: it is run again, as W&B does with such runs."""
    told: bool = True
    """The server has heard of its end."""
    unsent: tuple[str, ...] = ()
    """Folders of what it wrote offline, which is yet to be sent."""
    missing: MissingMetric | None = None
    """It finished without a value; None also where the sweep has no metric."""
    worn: str = ""
    """Why its worker's process can't go on as a fresh one, and waits to be replaced; mostly ''."""


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The worker has done what its last Lease or Rerun asked, and waits for the next."""

    short: bool = False
    """The agent returned before the lease was used up, so the sweep gave no more."""
    error: str = ""
    """Why this process can be given no further runs, in words: its agent raised, or went silent, or `main`
    left what can't be put back; empty where it can."""


@dataclass(frozen=True, slots=True)
class Active:
    """The run has logged something, where stalls are looked for; or the agent has asked for one in vain."""


Report = Ready | StartFailed | RunStarted | RunEnded | LeaseEnded | Active


# --- notices: supervisor → whoever watches ----------------------------------------


@dataclass(frozen=True, slots=True)
class SweepOpened:
    """The sweep exists and its workers are about to start."""

    path: SweepPath
    url: str
    backend: str
    count: int | None
    workers: int
    shares: tuple[int, ...]
    """The planned runs of each slot; empty where the count has no limit."""
    folder: str
    metric: str | None
    goal: str
    method: str = ""


@dataclass(frozen=True, slots=True)
class RunBegan:
    """An attempt of a run has entered `main`."""

    slot: Slot
    run_id: RunId
    attempt: int
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunOver:
    """An attempt is over; `again` says whether the run will be run again."""

    slot: Slot
    run_id: RunId
    attempt: int
    outcome: Outcome
    reason: str
    value: float | None
    duration_s: float
    again: bool = False


@dataclass(frozen=True, slots=True)
class WorkerChanged:
    """A worker's slot has a new state."""

    slot: Slot
    state: SlotState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line that a worker's process tree printed; the line end is cut off."""

    slot: Slot
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A sentence for the user; `warning` where something is not as they asked."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class SweepOver:
    """The sweep's summary has been written: nothing changes what became of it."""

    exit_code: int


Notice = SweepOpened | RunBegan | RunOver | MissingMetric | WorkerChanged | OutputLine | Message | SweepOver
Observer = Callable[[Notice], None]
