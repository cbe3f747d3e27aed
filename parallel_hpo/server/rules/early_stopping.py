"""When a run is stopped early: what every rule of a sweep's `early_terminate` says of a run's course. Pure.

A run's iteration is the number of its history rows that have the metric. At each of a rule's *bands*,
iterations that it chooses, the losses of all runs that get there are kept, and runs are judged by them.
Values are losses here: smaller is better, whatever the metric's goal. Each is what
counts of the run at that row (`metric`): the value logged, or the best or mean so far.

Hyperband, as W&B documents and its engine applies it: at each band only the best 1/eta of the runs go on.

Its bands grow by `eta`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from parallel_hpo.config.checks import HyperbandSettings


@dataclass(frozen=True, slots=True)
class LossHistory:
    """How far a run is: its iterations, and its best loss."""

    iterations: int = 0
    best: float | None = None


@dataclass(frozen=True, slots=True)
class BandResult:
    """A run's loss at a band, and its best one until then."""

    band: int
    loss: float
    best: float


@dataclass(frozen=True, slots=True)
class Advance:
    """A run's new course, and the bands that it reached."""

    course: LossHistory
    reached: tuple[BandResult, ...]


class EarlyStopRule(Protocol):
    """The rule of one sweep."""

    def last_band(self, iterations: int) -> int | None:
        """Return the last band that a run of so many iterations has reached, or None."""

    def must_stop(self, at: BandResult, losses: Sequence[float]) -> bool:
        """Say whether a run that reached a band is to be stopped.

        `losses` are those of all runs that reached the band, its own among them; `at.best` may be better
        than what the run had at the band, if it went on since.
        """


def advance(course: LossHistory, losses: Sequence[float], rule: EarlyStopRule) -> Advance:
    """Return a run's course after more losses, and what it had at each band that it reached on the way."""
    iterations, best = course.iterations, course.best
    reached = []
    for loss in losses:
        iterations += 1
        best = loss if best is None else min(best, loss)
        if rule.last_band(iterations) == iterations:
            reached.append(BandResult(iterations, loss, best))
    return Advance(LossHistory(iterations, best), tuple(reached))


_LAST_BAND: Final = 10**9
"""No run logs so many rows; a band beyond is none."""
_MOST_BANDS: Final = 100
"""As many as W&B's engine makes, however small eta is."""


@dataclass(frozen=True, slots=True)
class Hyperband:
    """The rule of one sweep; `strict`: judged by the loss at the band, not by the best one so far."""

    bands: tuple[int, ...]
    eta: float
    strict: bool

    @classmethod
    def of(cls, settings: HyperbandSettings) -> Hyperband:
        """Return the rule that a sweep's configuration has."""
        return cls(_bands(settings), settings.eta, settings.strict)

    def last_band(self, iterations: int) -> int | None:
        """Return the last band that a run of so many iterations has reached, or None."""
        return max((band for band in self.bands if band <= iterations), default=None)

    def must_stop(self, at: BandResult, losses: Sequence[float]) -> bool:
        """Say whether a run is none of the best 1/eta at a band."""
        if not losses:
            return False
        threshold = sorted(losses)[int(len(losses) / self.eta)]
        return (at.loss if self.strict else at.best) > threshold


def _bands(settings: HyperbandSettings) -> tuple[int, ...]:
    if settings.max_iter is not None and settings.s is not None:
        return _downwards(settings.max_iter, settings.eta, int(settings.s))
    assert settings.min_iter is not None
    return _upwards(settings.min_iter, settings.eta)


def _downwards(max_iter: int, eta: float, times: int) -> tuple[int, ...]:
    bands: list[int] = []
    band = float(min(max_iter, _LAST_BAND))
    for _ in range(min(times, _MOST_BANDS)):
        band /= eta
        if band < 1:
            break
        bands.insert(0, int(band))
    return tuple(dict.fromkeys(bands))


def _upwards(min_iter: int, eta: float) -> tuple[int, ...]:
    bands: list[int] = []
    band = float(min(min_iter, _LAST_BAND))
    while band < _LAST_BAND and len(bands) < _MOST_BANDS:
        bands.append(int(band))
        band *= eta
    return tuple(dict.fromkeys(bands))
