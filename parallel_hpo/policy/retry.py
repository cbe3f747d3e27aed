"""Whether a run that its worker's death cut short, or that marked itself as preempting, is run again."""

from __future__ import annotations

from typing import Final

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
