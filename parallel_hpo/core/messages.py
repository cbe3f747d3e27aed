"""Messages over a worker's pipe, pickled: orders to the worker and its reports.

Also the values that they share with the ledger and the pool: how an attempt or a sweep ended, and the
devices and energy that it used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final, Self

from parallel_hpo.core.types import Outcome, Parameters, RunId, StopKind

JOULES_PER_KWH: Final = 3.6e6


@dataclass(frozen=True, slots=True)
class Consumption:
    """Measured device time and energy; None: not measured.

    Runs that share a device split its time and energy equally at each moment. A sum leaves out unknown
    parts, so it is a lower bound.
    """

    device_hours: float | None = None
    """Device hours; for a worker with two devices, each hour counts twice."""
    device_kwh: float | None = None
    """Energy by the devices' own counters."""
    cpu_kwh: float | None = None
    """Energy by the processors' counters, other processes included."""

    def __bool__(self) -> bool:
        """Return whether anything is known."""
        return self != UNKNOWN


UNKNOWN: Final = Consumption()


def total(parts: Iterable[Consumption]) -> Consumption:
    """Return the sum of all parts."""
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
    """Return the known values as text, such as `1.5 device hours, 0.42 kWh of devices`; '' if none."""
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
    """How an attempt ended; the last attempt's end is the run's."""

    outcome: Outcome
    reason: str = ""
    value: float | None = None
    """The sweep's metric in the run's summary; None if it has none."""
    duration_s: float = 0.0
    """Duration of the attempt, set by the session; of an ended run: of all its attempts."""
    resumable: bool = False
    """The session stopped it, not the sweep: a resumed sweep or another machine runs it again."""
    traceback: str = ""
    """Traceback of the exception; '' if there is none, or a program has printed it."""
    consumption: Consumption = UNKNOWN
    """Devices and energy used by the attempt, once measured."""

    @classmethod
    def like(cls, end: AttemptEnd, **changes: Any) -> Self:
        """Return a message of this class with the fields of `end`, changed by `changes`."""
        return cls(**dict(zip(_END_FIELDS, _values_of(end), strict=True)) | changes)


_END_FIELDS: Final = tuple(field.name for field in fields(AttemptEnd))
_values_of: Final = attrgetter(*_END_FIELDS)


@dataclass(frozen=True, slots=True)
class SweepEnd:
    """Why the sweep ends, here or on all machines, and its exit code."""

    reason: str
    exit_code: int
    stop: StopKind | None = None
    """None: nothing is left to do."""


INDEX_KEY: Final = "place"
"""Key of the run's index in the sweep, from 0, beside each parameter's value from a parallel_hpo server."""

# --- orders: session → worker ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """Start up to `count` new runs, one after another; None: until the sweep gives no more."""

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
    """The run's seed; None: the sweep has none."""


@dataclass(frozen=True, slots=True)
class SkipRun:
    """Don't call `main` for this run, which has ended or runs elsewhere.

    `exit_code`: the run has ended, but its server does not know; close it there with this code. None:
    don't touch it.
    """

    run_id: RunId
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish the current run, start no more, and exit."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Raise KeyboardInterrupt in `main`, start no more runs, and exit."""

    preempting: bool = False


@dataclass(frozen=True, slots=True)
class CutRun:
    """Raise KeyboardInterrupt in this run's `main`; the run fails with `reason`, the worker goes on."""

    run_id: RunId
    reason: str


Order = Lease | Rerun | Proceed | SkipRun | Drain | Interrupt | CutRun


# --- reports: worker → session -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has unpickled `main` and waits for its first order."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The worker can't start; every other worker would fail in the same way."""

    cause: str
    traceback: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run is about to enter `main`; the worker waits for `Proceed` or `SkipRun`."""

    run_id: RunId
    parameters: Parameters
    attempt: int
    index: int | None = None
    """The run's index in the sweep, from 0; None if its server does not give one."""


@dataclass(frozen=True, slots=True)
class MissingMetric:
    """A run finished without a number as the metric: the value `found`, and the names `logged`."""

    found: str
    logged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunEnded(AttemptEnd):
    """A run has left `main` and its W&B run is closed."""

    run_id: RunId
    attempt: int
    preempted: bool = False
    """It marked itself as preempting and left with an error, so it is run again, as W&B does."""
    reported: bool = True
    """The server has confirmed its end."""
    unsent: tuple[str, ...] = ()
    """Its offline folders that are yet to be sent."""
    missing: MissingMetric | None = None
    """It finished without a value; None also if the sweep has no metric."""
    reuse_problem: str = ""
    """Why its worker's process can't be reused and waits to be replaced; usually ''."""


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The worker has finished its last Lease or Rerun, and waits for the next."""

    short: bool = False
    """The agent returned before the lease was used up: the sweep gave no more."""
    error: str = ""
    """Why this process can't take more runs: its agent raised or went silent, or `main` changed the process
    beyond repair; '' if it can."""


@dataclass(frozen=True, slots=True)
class Active:
    """The run has logged something, or the agent got no run; sent if there is a stall timeout."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the current run by what it logs, for display only."""

    run_id: RunId
    step: int
    """W&B's step of the last log call."""
    done: float | None
    """Finished epochs or steps of `total`; both None if the total is unknown."""
    total: float | None
    name: str
    """Name of `value`: the sweep's metric, or the first number logged; '' if there is none."""
    value: float | None


Report = Ready | StartFailed | RunStarted | RunEnded | LeaseEnded | Active | Progress
