"""Pure answers to "may it go on?": each a limits type and a function or two.

*A dead worker's slot*: the first restart within the window comes at once (most deaths are
one-offs); from the second on the wait doubles, with full jitter below one half, so that slots
which died together don't come back together (Brooker, "Exponential Backoff and Jitter", 2015).

*A run* that its worker's death cut short, or that marked itself as preempting, is run again.

*The sweep* ends when so many runs fail: one breaker for all workers together. wandb's own check
counts each agent for itself, so that N workers dilute it; theirs is therefore switched off.

*The next run* is started where it is to be expected to end before the deadline.

*Deaths before Ready* may mean that every worker would die so: a `main` that won't unpickle or a
module that isn't there fails alike in every slot; the second such death with the same cause ends
the sweep (uvicorn, whose supervisor learnt the same: encode/uvicorn#2289).

How a count is split into shares, and how large the next lease is.

Integers in, integers out; nothing here knows of processes. The shares of a count
always add up to it, whatever their number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from parallel_hpo.core.types import Outcome

# --- a dead worker's slot ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """A slot's restart budget: more than `max_restarts` within `window_s` seconds and it gives up."""

    max_restarts: int = 5
    window_s: float = 600.0
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class DelayedRestart:
    """Start again after `delay_s` seconds; `history` is the slot's restarts within the window."""

    delay_s: float
    history: tuple[float, ...]


def next_restart(
    history: tuple[float, ...], limits: RestartLimits, *, now: float, jitter: float
) -> DelayedRestart | None:
    """Return when a worker that died at `now` is started again, or None: the budget is spent.

    `history` holds the times of earlier restarts (monotonic seconds, ascending);
    `jitter` is a number in [0, 1).
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
"""So often at most within one launch: W&B knows no bound, but a `main` that always marks itself would
then keep its sweep for ever."""


def may_run_again(deaths: int, retries: int) -> bool:
    """Return whether a run whose attempts died `deaths` times gets another attempt.

    `retries` is the contract's key of that name: 0 means that the first death
    already makes the run crashed.
    """
    return deaths <= retries


def may_be_preempted_again(preemptions: int) -> bool:
    """Return whether a run that was preempted so often before gets another attempt: it costs no retry."""
    return preemptions < PREEMPTIONS


# --- failed runs ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FailureLimits:
    """How many failed runs end the sweep; None: any number may fail."""

    max_consecutive: int | None = None
    max_total: int | None = None
    max_initial: int | None = 5
    """So many failures before any run has finished."""


@dataclass(frozen=True, slots=True)
class FailureCount:
    """The failed runs so far; stopped and crashed ones count neither way."""

    total: int = 0
    consecutive: int = 0
    none_finished: bool = True


def count_outcome(count: FailureCount, outcome: Outcome) -> FailureCount:
    """Return the count after a run that ended so."""
    if outcome is Outcome.FAILED:
        return replace(count, total=count.total + 1, consecutive=count.consecutive + 1)
    if outcome is Outcome.FINISHED:
        return replace(count, consecutive=0, none_finished=False)
    return count


def why_tripped(count: FailureCount, limits: FailureLimits) -> str:
    """Return which limit was reached, in words with its key; '' while none is."""
    if limits.max_initial is not None and count.none_finished and count.total >= limits.max_initial:
        return f"the first {count.total} runs failed (failures.max_initial is {limits.max_initial})"
    if limits.max_consecutive is not None and count.consecutive >= limits.max_consecutive:
        return (
            f"{count.consecutive} runs in a row failed (failures.max_consecutive is {limits.max_consecutive})"
        )
    if limits.max_total is not None and count.total >= limits.max_total:
        return f"{count.total} runs failed (failures.max_total is {limits.max_total})"
    return ""


# --- runs that fit into what is left of the time ---------------------------------------

SHORTEST_S: Final = 0.001
RECENT: Final = 100
"""So many of the latest runs say how long the next one will take."""
MOST: Final = 0.9
"""Of those so many took no longer than is expected of the next one; of fewer than ten, all."""


def note_duration(took: tuple[float, ...], took_s: float, outcome: Outcome) -> tuple[float, ...]:
    """Return how long the latest runs took, with one more: what failed or crashed may have been short."""
    if outcome not in (Outcome.FINISHED, Outcome.STOPPED):
        return took
    return (*took, took_s)[-RECENT:]


def expected_s(took: tuple[float, ...]) -> float | None:
    """Return how long the next run is to be expected to take; None: nobody knows yet."""
    return sorted(took)[ceil(MOST * len(took)) - 1] if took else None


def runs_within(took: tuple[float, ...], left_s: float) -> int:
    """Return how many runs, one after the other, are to end within the time that is left.

    Before any has ended it is one, for as long as there is any time.
    """
    each_s = expected_s(took)
    if each_s is None:
        return int(left_s > 0)
    return int(max(0.0, left_s) / max(each_s, SHORTEST_S))


def why_too_late(took: tuple[float, ...], left_s: float, deadline: str) -> str:
    """Return why no run is started any more, in words."""
    each_s = expected_s(took) or 0.0
    return (
        f"deadline {deadline}: no run starts that would not end in time ({max(0.0, left_s):.0f} s are left,"
        f" and by the runs so far one takes {each_s:.0f} s)"
    )


# --- deaths before Ready -------------------------------------------------------------

SAME_CAUSE_LIMIT = 2
"""One such death may be chance (memory, a full disk); two alike are not."""


def is_hopeless(causes: tuple[str, ...]) -> bool:
    """Return whether the last of `causes` (of deaths before Ready, in order) has come too often."""
    return bool(causes) and causes.count(causes[-1]) >= SAME_CAUSE_LIMIT


MOST_WORKERS: Final = 4096
"""A running sweep is scaled to no more: each worker is a process, of some 100 MB with wandb in it."""

LEASES_PER_WORKER: Final = 2
"""A lease is at most this part of a worker's fair share of what is left: guided
self-scheduling (Polychronopoulos and Kuck, 1987), so that the last runs spread
over all workers instead of waiting behind one."""


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
    """The `number`-th (from 1) of `of` shares of a count, each performed by a launch of its own."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def folder(self) -> str:
        """The name of its folder within the sweep's."""
        return f"share-{self.number}-of-{self.of}"

    def count(self, total: int) -> int:
        """Return its part of `total` runs; the parts of all shares add up to it."""
        return split_count(total, self.of)[self.number - 1]


@dataclass(frozen=True, slots=True)
class Launch:
    """Which part of a sweep a launch performs: all of it, what an earlier one left, or a share."""

    resume: str | None = None
    """The sweep to go on with: its id."""
    share: Share | None = None
    keep_configuration: bool = False
    """Whether to go on by the sweep's own configuration where the metric or goal now differs from it."""


def next_lease(left: int, workers: int) -> int:
    """Return how many of the `left` unleased runs the next idle one of `workers` is given.

    Never more than `left`, and at least 1 while any is left.
    """
    if left <= 0:
        return 0
    return max(1, -(-left // (LEASES_PER_WORKER * max(1, workers))))
