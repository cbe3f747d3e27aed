"""How a count is split into shares, and how large the next lease is.

Integers in, integers out; nothing here knows of processes. The shares of a count
always add up to it, whatever their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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
