"""When a run is stopped early: what every rule of a sweep's `early_terminate` says of a run's course. Pure.

A run's iteration is the number of its history rows that have the metric. At each of a rule's *bands*,
iterations that it chooses, the losses of all runs that get there are kept, and runs are judged by them.
Values are losses here: smaller is better, whatever the metric's goal. Each is what
counts of the run at that row (`metric`): the value logged, or the best or mean so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LossCourse:
    """How far a run is: its iterations, and its best loss."""

    iterations: int = 0
    best: float | None = None


@dataclass(frozen=True, slots=True)
class AtBand:
    """A run's loss at a band, and its best one until then."""

    band: int
    loss: float
    best: float


@dataclass(frozen=True, slots=True)
class Advance:
    """A run's new course, and the bands that it reached."""

    course: LossCourse
    reached: tuple[AtBand, ...]


class EarlyStopRule(Protocol):
    """The rule of one sweep."""

    def last_band(self, iterations: int) -> int | None:
        """Return the last band that a run of so many iterations has reached, or None."""

    def must_stop(self, at: AtBand, losses: Sequence[float]) -> bool:
        """Say whether a run that reached a band is to be stopped.

        `losses` are those of all runs that reached the band, its own among them; `at.best` may be better
        than what the run had at the band, if it went on since.
        """


def advance(course: LossCourse, losses: Sequence[float], rule: EarlyStopRule) -> Advance:
    """Return a run's course after more losses, and what it had at each band that it reached on the way."""
    iterations, best = course.iterations, course.best
    reached = []
    for loss in losses:
        iterations += 1
        best = loss if best is None else min(best, loss)
        if rule.last_band(iterations) == iterations:
            reached.append(AtBand(iterations, loss, best))
    return Advance(LossCourse(iterations, best), tuple(reached))
