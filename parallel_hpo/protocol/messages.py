"""What a supervisor and its worker say to each other over the worker's pipe: orders and reports, pickled.

All are frozen; none does anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parallel_hpo.protocol.ends import AttemptEnd
from parallel_hpo.words import Parameters, RunId

PLACE: Final = "place"
"""Beside each value that a server of ours gives a worker's agent: the run's place in the sweep, from 0."""

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
    seed: int | None = None
    """The run's own; None: the sweep has none."""


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
    place: int | None = None
    """In the sweep, from 0, as its server has said; None: it has said none."""


@dataclass(frozen=True, slots=True)
class MissingMetric:
    """A run finished without a number as the metric: what was `found` there, and the names `logged`."""

    found: str
    logged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunEnded(AttemptEnd):
    """A run has left `main` and its W&B run is closed."""

    run_id: RunId
    attempt: int
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


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run that is on has come, by what it has logged; nothing is decided by it."""

    run_id: RunId
    step: int
    """W&B's step of what it logged last."""
    done: float | None
    """Epochs or steps of `total` that are done; both None where the total is not known."""
    total: float | None
    name: str
    """What `value` is: the sweep's metric, or the first number of what was logged; '' where there is none."""
    value: float | None


Report = Ready | StartFailed | RunStarted | RunEnded | LeaseEnded | Active | Progress
