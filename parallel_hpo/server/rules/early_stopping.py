"""Early stopping (`early_terminate`): the interface of rules, and Hyperband. Pure.

A run's iteration is the number of its history rows with the metric. A rule's *bands* are iterations at
which the losses of all runs are stored and compared. Values are losses: smaller is better, whatever the
metric's goal. A loss is the metric's value at that row: as logged, or the best or mean so far.

Hyperband, as W&B documents and applies it: at each band only the best 1/eta of the runs continue.
The bands grow by `eta`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from parallel_hpo.config.checks import HyperbandSettings


@dataclass(frozen=True, slots=True)
class LossHistory:
    """A run's number of iterations and its best loss."""

    iterations: int = 0
    best: float | None = None


@dataclass(frozen=True, slots=True)
class BandResult:
    """A run's loss at a band, and its best loss until then."""

    band: int
    loss: float
    best: float


@dataclass(frozen=True, slots=True)
class Advance:
    """A run's new history, and the bands that it reached."""

    history: LossHistory
    reached: tuple[BandResult, ...]


class EarlyStopRule(Protocol):
    """The rule of one sweep."""

    def last_band(self, iterations: int) -> int | None:
        """Return the last band that a run has reached after `iterations`, or None."""

    def must_stop(self, at: BandResult, losses: Sequence[float]) -> bool:
        """Return whether a run that reached a band must stop.

        `losses` are those of all runs that reached the band, including its own. `at.best` may be better
        than the run's loss at the band if it has continued since.
        """


def advance(history: LossHistory, losses: Sequence[float], rule: EarlyStopRule) -> Advance:
    """Return a run's history after more losses, and its results at the bands that it reached."""
    iterations, best = history.iterations, history.best
    reached = []
    for loss in losses:
        iterations += 1
        best = loss if best is None else min(best, loss)
        if rule.last_band(iterations) == iterations:
            reached.append(BandResult(iterations, loss, best))
    return Advance(LossHistory(iterations, best), tuple(reached))


_LAST_BAND: Final = 10**9
"""Upper limit of bands, in iterations; no run logs as many rows."""
_MAX_BANDS: Final = 100
"""Maximum number of bands, as in W&B's engine, however small eta is."""


@dataclass(frozen=True, slots=True)
class Hyperband:
    """Hyperband for one sweep; `strict` compares the loss at the band instead of the best loss so far."""

    bands: tuple[int, ...]
    eta: float
    strict: bool

    @classmethod
    def of(cls, settings: HyperbandSettings) -> Hyperband:
        """Return the rule of a sweep's settings."""
        return cls(_bands(settings), settings.eta, settings.strict)

    def last_band(self, iterations: int) -> int | None:
        """Return the last band that a run has reached after `iterations`, or None."""
        return max((band for band in self.bands if band <= iterations), default=None)

    def must_stop(self, at: BandResult, losses: Sequence[float]) -> bool:
        """Return whether a run is outside the best 1/eta at a band."""
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
    for _ in range(min(times, _MAX_BANDS)):
        band /= eta
        if band < 1:
            break
        bands.insert(0, int(band))
    return tuple(dict.fromkeys(bands))


def _upwards(min_iter: int, eta: float) -> tuple[int, ...]:
    bands: list[int] = []
    band = float(min(min_iter, _LAST_BAND))
    while band < _LAST_BAND and len(bands) < _MAX_BANDS:
        bands.append(int(band))
        band *= eta
    return tuple(dict.fromkeys(bands))
