"""Hyperband, as W&B documents and its engine applies it: at each band only the best 1/eta of the runs go on.

Its bands grow by `eta`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from parallel_hpo.config.early_stopping import HyperbandSettings
from parallel_hpo.server.rules.early_stopping import AtBand

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

    def must_stop(self, at: AtBand, losses: Sequence[float]) -> bool:
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
