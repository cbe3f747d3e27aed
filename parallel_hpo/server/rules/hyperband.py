"""When Hyperband's `early_terminate` ends a run: pure rules, as W&B documents and its engine applies them.

A run's iteration is the number of its history rows that have the metric. At each of
the `bands`, iterations that grow by `eta`, only the best 1/eta of the runs go on.
Values are losses here: smaller is better, whatever the metric's goal. Each is what
counts of the run at that row (`metric`): the value logged, or the best or mean so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_DEFAULT_ETA: Final = 3
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


@dataclass(frozen=True, slots=True)
class Course:
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

    course: Course
    reached: tuple[AtBand, ...]


def read_rule(rule: Mapping[str, Any]) -> Hyperband:
    """Return the rule of a checked `early_terminate` section."""
    eta = rule.get("eta", _DEFAULT_ETA)
    if "max_iter" in rule:
        bands = _downwards(rule["max_iter"], eta, int(rule["s"]))
    else:
        bands = _upwards(rule["min_iter"], eta)
    return Hyperband(bands, eta, rule.get("strict", False))


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


def advance(course: Course, losses: Sequence[float], bands: Sequence[int]) -> Advance:
    """Return a run's course after more losses, and what it had at each band that it reached on the way."""
    iterations, best = course.iterations, course.best
    reached = []
    for loss in losses:
        iterations += 1
        best = loss if best is None else min(best, loss)
        if iterations in bands:
            reached.append(AtBand(iterations, loss, best))
    return Advance(Course(iterations, best), tuple(reached))


def band_of(rule: Hyperband, course: Course) -> int | None:
    """Return the last band that a run has reached, or None."""
    return max((band for band in rule.bands if band <= course.iterations), default=None)


def must_stop(rule: Hyperband, at: AtBand, losses: Sequence[float]) -> bool:
    """Say whether a run is none of the best 1/eta at a band.

    `losses` are those of all runs that reached the band, its own among them; `at.best` may be better
    than what the run had at the band, if it went on since.
    """
    if not losses:
        return False
    threshold = sorted(losses)[int(len(losses) / rule.eta)]
    return (at.loss if rule.strict else at.best) > threshold
