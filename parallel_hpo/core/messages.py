"""What attempts, runs and sweeps have used of devices and energy: one shape from meter to summary.

How an attempt ended, and why a sweep is left: the shapes that all share who speak of it.

What a supervisor and its worker say to each other over the worker's pipe: orders and reports, pickled.

All are frozen; none does anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from parallel_hpo.core.types import Outcome, Parameters, RunId, StopKind

JOULES_PER_KWH: Final = 3.6e6


@dataclass(frozen=True, slots=True)
class Consumption:
    """What was measured; None: nothing of it was, so that nobody knows.

    Runs that share a device share its time and its energy: of each moment every one of them has as much
    as the others. Sums leave out what is not known, and are at least so much.
    """

    device_hours: float | None = None
    """Hours of one device; of a worker with two, an hour counts twice."""
    device_kwh: float | None = None
    """By the devices' own counters: all that they drew meanwhile."""
    cpu_kwh: float | None = None
    """By the processors' counters: all that they drew meanwhile, whoever computed on them."""

    def __bool__(self) -> bool:
        """Whether anything of it is known."""
        return self != UNKNOWN


UNKNOWN: Final = Consumption()


def total(parts: Iterable[Consumption]) -> Consumption:
    """Return what all parts are together."""
    known = list(parts)
    return Consumption(
        _sum(part.device_hours for part in known),
        _sum(part.device_kwh for part in known),
        _sum(part.cpu_kwh for part in known),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def in_words(used: Consumption) -> str:
    """Return what is known of it, as people read it: `1.5 device hours, 0.42 kWh of devices`; '': nothing."""
    parts = (
        (used.device_hours, "device hours"),
        (used.device_kwh, "kWh of devices"),
        (used.cpu_kwh, "kWh of processors"),
    )
    return ", ".join(f"{_number(value)} {unit}" for value, unit in parts if value is not None)


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended, and with the last one its run."""

    outcome: Outcome
    reason: str = ""
    value: float | None = None
    """The sweep's metric as the run's summary has it; None where it has none."""
    duration_s: float = 0.0
    """What the attempt took, once its supervisor says so; of a run that is over: all of its attempts."""
    resumable: bool = False
    """It was stopped by us, not by the sweep: a resumed sweep runs it again, or another machine."""
    traceback: str = ""
    """Of the exception that it failed by; '' where there is none, or a program has printed it."""
    consumption: Consumption = UNKNOWN
    """What the attempt has used, once that is measured."""

    @classmethod
    def like(cls, end: AttemptEnd, *words: Any, **changes: Any) -> Self:
        """Return one that says the same, in a message of this class with these words, but for the changes."""
        told = {field.name: getattr(end, field.name) for field in fields(AttemptEnd)}
        return cls(*words, **told | changes)


@dataclass(frozen=True, slots=True)
class SweepEnd:
    """Why the sweep's processes leave, here or on all machines, and with which exit code."""

    reason: str
    exit_code: int
    stop: StopKind | None = None
    """None: nothing is left to do."""


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
class SkipRun:
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
class CutRun:
    """Raise KeyboardInterrupt in the `main` of this run, which fails for that reason; stay for the next."""

    run_id: RunId
    reason: str


Order = Lease | Rerun | Proceed | SkipRun | Drain | Interrupt | CutRun


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
    """A run is about to enter `main`; the worker waits for `Proceed`, or `SkipRun`."""

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
