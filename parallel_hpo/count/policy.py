"""Pure rules for restarts, retries, failure limits, the deadline, shares of a count and lease sizes.

Each rule is a limits type and a function or two. `session/decide` and the pool of many machines use them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from parallel_hpo.core.types import Outcome

# --- a dead worker's slot ------------------------------------------------------------
# The first restart in the window is immediate, since most deaths are one-offs. From the second on the wait
# doubles, with jitter of up to one half, so that slots that died together don't restart together
# (Brooker, "Exponential Backoff and Jitter", 2015).


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """A slot's restart budget: it gives up after more than `max_restarts` within `window_s` seconds."""

    max_restarts: int = 5
    window_s: float = 600.0
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class DelayedRestart:
    """Restart after `delay_s` seconds; `history` is the slot's restarts within the window."""

    delay_s: float
    history: tuple[float, ...]


def next_restart(
    history: tuple[float, ...], limits: RestartLimits, *, now: float, jitter: float
) -> DelayedRestart | None:
    """Return when to restart a worker that died at `now`; None if the budget is spent.

    `history` holds the times of earlier restarts (monotonic seconds, ascending); `jitter` is in [0, 1).
    """
    recent = tuple(at for at in history if now - at < limits.window_s)
    if len(recent) >= limits.max_restarts:
        return None
    return DelayedRestart(_delay_s(len(recent), limits, jitter), (*recent, now))


def _delay_s(earlier: int, limits: RestartLimits, jitter: float) -> float:
    if earlier == 0:
        return 0.0
    # The exponent is clamped: 2.0 ** 1024 overflows.
    full = min(limits.backoff_max_s, limits.backoff_s * 2.0 ** min(earlier - 1, 60))
    return full * (1.0 - jitter / 2.0)


# --- a run that was cut short --------------------------------------------------------

PREEMPTIONS: Final = 20
"""Maximum preemptions per run and launch; W&B has no limit, which could keep a sweep running forever."""


def may_run_again(deaths: int, retries: int) -> bool:
    """Return whether a run gets another attempt after `deaths` deaths of its workers.

    `retries` is the configuration's key; with 0 the run crashes on the first death.
    """
    return deaths <= retries


def may_be_preempted_again(preemptions: int) -> bool:
    """Return whether a run gets another attempt after `preemptions` earlier ones, which cost no retry."""
    return preemptions < PREEMPTIONS


# --- failed runs ---------------------------------------------------------------------
# One count for all workers. wandb's own check counts per agent, so N workers dilute it; it is switched off.


@dataclass(frozen=True, slots=True)
class FailureLimits:
    """Numbers of failed runs that end the sweep; None: no limit."""

    max_consecutive: int | None = None
    max_total: int | None = None
    max_initial: int | None = 5
    """Failures before any run has finished."""


@dataclass(frozen=True, slots=True)
class FailureCount:
    """Failed runs so far; stopped and crashed runs change nothing."""

    total: int = 0
    consecutive: int = 0
    none_finished: bool = True


def count_outcome(count: FailureCount, outcome: Outcome) -> FailureCount:
    """Return the count after a run with this outcome."""
    if outcome is Outcome.FAILED:
        return replace(count, total=count.total + 1, consecutive=count.consecutive + 1)
    if outcome is Outcome.FINISHED:
        return replace(count, consecutive=0, none_finished=False)
    return count


def reached_limit(count: FailureCount, limits: FailureLimits) -> str | None:
    """Return the failure limit that was reached, in words with its key, or None."""
    if limits.max_initial is not None and count.none_finished and count.total >= limits.max_initial:
        return f"the first {count.total} runs failed (failures.max_initial is {limits.max_initial})"
    if limits.max_consecutive is not None and count.consecutive >= limits.max_consecutive:
        return (
            f"{count.consecutive} runs in a row failed (failures.max_consecutive is {limits.max_consecutive})"
        )
    if limits.max_total is not None and count.total >= limits.max_total:
        return f"{count.total} runs failed (failures.max_total is {limits.max_total})"
    return None


# --- runs that end before the deadline -------------------------------------------------

SHORTEST_S: Final = 0.001
"""Shortest duration to expect of a run, in seconds."""
RECENT: Final = 100
"""Number of latest runs from which the next one's duration is expected."""
QUANTILE: Final = 0.9
"""Part of these runs that took no longer than the expected duration; all, for fewer than ten."""


def note_duration(took: tuple[float, ...], took_s: float, outcome: Outcome) -> tuple[float, ...]:
    """Add a run's duration in seconds to the latest ones, unless it failed or crashed, maybe early."""
    if outcome not in (Outcome.FINISHED, Outcome.STOPPED):
        return took
    return (*took, took_s)[-RECENT:]


def expected_s(took: tuple[float, ...]) -> float | None:
    """Return the expected duration of the next run in seconds; None if no run has ended."""
    return sorted(took)[ceil(QUANTILE * len(took)) - 1] if took else None


def runs_within(took: tuple[float, ...], left_s: float) -> int:
    """Return how many runs, one after another, should end within `left_s` seconds.

    Before any run has ended it is 1, while any time is left.
    """
    each_s = expected_s(took)
    if each_s is None:
        return int(left_s > 0)
    return int(max(0.0, left_s) / max(each_s, SHORTEST_S))


def too_late_reason(took: tuple[float, ...], left_s: float, deadline: str) -> str:
    """Return why no more runs start before the deadline, in words."""
    each_s = expected_s(took) or 0.0
    return (
        f"deadline {deadline}: no run starts that would not end in time ({max(0.0, left_s):.0f} s are left,"
        f" and by the runs so far one takes {each_s:.0f} s)"
    )


# --- deaths before Ready -------------------------------------------------------------
# A `main` that can't be unpickled or a missing module would kill every worker in the same way
# (uvicorn learnt the same: encode/uvicorn#2289).

SAME_CAUSE_LIMIT = 2
"""Deaths before Ready with the same cause that end the sweep; one may be chance (memory, a full disk)."""


def is_hopeless(causes: tuple[str, ...]) -> bool:
    """Return whether the last of `causes` (of deaths before Ready, in order) has occurred too often."""
    return bool(causes) and causes.count(causes[-1]) >= SAME_CAUSE_LIMIT


# --- shares and leases ---------------------------------------------------------------

MAX_WORKERS: Final = 4096
"""Maximum workers of a running sweep; each is a process of some 100 MB with wandb in it."""

LEASES_PER_WORKER: Final = 2
"""Leases into which a worker's fair share of the remaining runs is divided: guided self-scheduling
(Polychronopoulos and Kuck, 1987), so that the last runs spread over all workers."""


def split_count(count: int, shares: int) -> list[int]:
    """Split `count` runs into `shares` shares that differ by at most one, the larger ones first.

    `split_count(10, 3) == [4, 3, 3]`; the I-th of N (1-based) is `split_count(count, N)[I - 1]`.

    Raises:
        ValueError: `count` is negative or `shares` is less than 1.
    """
    if count < 0:
        raise ValueError(f"count is {count}: it can't be negative")
    if shares < 1:
        raise ValueError(f"shares is {shares}: at least 1 is needed")
    each, more = divmod(count, shares)
    return [each + 1] * more + [each] * (shares - more)


@dataclass(frozen=True, slots=True)
class Share:
    """The `number`-th (from 1) of `of` shares of a count; each share is run by a separate launch."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def folder(self) -> str:
        """Name of its folder within the sweep's."""
        return f"share-{self.number}-of-{self.of}"

    def count(self, total: int) -> int:
        """Return its part of `total` runs; the parts of all shares add up to `total`."""
        return split_count(total, self.of)[self.number - 1]


@dataclass(frozen=True, slots=True)
class Launch:
    """The part of a sweep that a launch runs: all of it, the rest of an earlier launch, or a share."""

    resume: str | None = None
    """Id of the sweep to resume."""
    share: Share | None = None
    keep_configuration: bool = False
    """Whether to keep the sweep's own configuration if the metric or goal now differs."""


def next_lease(left: int, workers: int) -> int:
    """Return how many of `left` unleased runs to lease to the next idle one of `workers`.

    At most `left`, and at least 1 while any run is left.
    """
    if left <= 0:
        return 0
    return max(1, -(-left // (LEASES_PER_WORKER * max(1, workers))))
