"""When so many runs fail that the sweep is ended: one breaker for all workers together.

wandb's own check counts each agent for itself, so that N workers dilute it; theirs is
therefore switched off, and this one counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from parallel_hpo.words import Outcome


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
