"""Whether a run that its worker's death cut short is run again."""

from __future__ import annotations


def may_run_again(deaths: int, retries: int) -> bool:
    """Return whether a run whose attempts died `deaths` times gets another attempt.

    `retries` is the contract's key of that name: 0 means that the first death
    already makes the run crashed.
    """
    return deaths <= retries
