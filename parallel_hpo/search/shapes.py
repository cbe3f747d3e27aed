"""Losses as a Gaussian process takes them: with mean 0, variance 1, and in one of two shapes.

Brought near to a bell (Yeo and Johnson 2000), a few huge losses don't hide the differences
between the small ones. But a bell also stretches the noise of the small ones: where noise is all
that tells them apart, losses as they are say more. Which shape serves better, the likelihoods tell,
each with the density that its shape gives to the losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import PowerTransformer

from parallel_hpo.search.columns import Column

_FAR: Final = 5.0
"""Losses are cut off so many times as far above the median as the best one lies below it."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """Losses in a shape; `density`: the logarithm of how much closer together it brings the standard ones."""

    losses: Column
    density: float = 0.0


def cut_off(losses: Column) -> Column:
    """Return the losses, none far above the others, with mean 0 and variance 1; 0 where all are equal."""
    small = losses / 16  # since the difference of two floats, or five times it, may be none
    lowest, median, highest = small.min(), np.median(small), small.max()
    if lowest < median:
        highest = min(highest, median + _FAR * (median - lowest))
    if lowest == highest:
        return np.zeros(len(losses))
    spread = (np.minimum(small, highest) - lowest) / (highest - lowest)
    standard: NDArray[np.float64] = (spread - spread.mean()) / spread.std()
    return standard


def bell_shaped(standard: Column) -> Shaped:
    """Return losses that are `cut_off` already without long tails, in their order."""
    if not standard.any():
        return Shaped(standard)
    bell = PowerTransformer(standardize=False)
    bent = bell.fit_transform(standard[:, np.newaxis])[:, 0]
    spread = float(bent.std())
    slopes = (bell.lambdas_[0] - 1) * np.sign(standard) * np.log1p(np.abs(standard))
    return Shaped((bent - bent.mean()) / spread, float(slopes.sum()) - len(bent) * float(np.log(spread)))
