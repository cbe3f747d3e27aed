"""A Gaussian process of the loss: scikit-learn's, with what a sweep needs around it.

A Matérn 5/2 kernel with a length for every column and a share of noise, all fitted
by likelihood. Losses are first brought near to a bell shape (Yeo and Johnson 2000),
since a process takes them for that: a few huge ones would hide all differences
between the small ones. The only importer of scikit-learn.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.preprocessing import PowerTransformer

from parallel_hpo.search.columns import Column, Table

_STRENGTH: Final = (0.01, 100.0)
_LENGTH: Final = (0.03, 50.0)
_NOISE: Final = (1e-6, 1.0)
"""Bounds of what is fitted, for columns from 0 to 1 and losses of variance 1."""
_LIKELY_LENGTH: Final = 4.0
"""Before the fit, for one column; it grows with the root of their number (Hvarfner et al. 2024)."""
_LIKELY_NOISE: Final = 1e-4
_FITTING_STEPS: Final = 30
"""At most: a fit that is not quite at its end serves as well, and each step costs a millisecond or two."""
_FAR: Final = 5.0
"""Losses are cut off so many times as far above the median as the best one lies below it."""


class Surface:
    """What is believed of the loss at every point, after some points were told, in their unit."""

    def __init__(self, kernel: Any, columns: Table, losses: Column) -> None:
        self.columns = columns
        self.losses = losses
        self._kernel = kernel
        self._noise = kernel.k2.noise_level
        self._process = GaussianProcessRegressor(kernel, optimizer=None).fit(columns, losses)

    def told(self, columns: Table, losses: Column) -> Surface:
        """Return the surface after more points, with the same kernel."""
        return Surface(
            self._kernel, np.vstack([self.columns, columns]), np.concatenate([self.losses, losses])
        )

    def mean(self, columns: Table) -> Column:
        """Return the loss expected at each point."""
        means: NDArray[np.float64] = self._process.predict(columns)
        return means

    def mean_and_deviation(self, columns: Table) -> tuple[Column, Column]:
        """Return the loss expected at each point, and its standard deviation without the noise."""
        means, deviations = self._process.predict(columns, return_std=True)
        return means, np.sqrt(np.maximum(deviations**2 - self._noise, 1e-12))


def fitted(columns: Table, losses: Column) -> Surface:
    """Return the surface that is most likely after the losses, which are `bell_shaped`."""
    width = columns.shape[1]
    lengths = np.ones(width)
    kernel = ConstantKernel(1.0, _STRENGTH) * Matern(lengths, _LENGTH, nu=2.5) + WhiteKernel(1e-3, _NOISE)
    process = GaussianProcessRegressor(kernel, optimizer=None).fit(columns, losses)

    # What the kernel calls theta are logarithms: of the strength, the lengths, and the noise.
    likely = np.log([1.0, *[_LIKELY_LENGTH * math.sqrt(width)] * width, _LIKELY_NOISE])
    spread = np.array([1.0, *[math.sqrt(3.0)] * width, 2.0])

    def unlikeliness(theta: Column) -> tuple[float, Column]:
        value, slope = process.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)
        off = (theta - likely) / spread
        return 0.5 * float(off @ off) - value, off / spread - slope

    # Not by the regressor's own optimizer, which warns when it comes to a bound or to its last step.
    best = minimize(
        unlikeliness,
        kernel.theta,
        jac=True,
        bounds=kernel.bounds,
        method="L-BFGS-B",
        options={"maxiter": _FITTING_STEPS},
    )
    return Surface(kernel.clone_with_theta(best.x), columns, losses)


def bell_shaped(losses: Column) -> Column:
    """Return the losses in their order, with mean 0, variance 1 and tails that are not long."""
    small = losses / 16  # since the difference of two floats, or five times it, may be none
    lowest, median, highest = small.min(), np.median(small), small.max()
    if lowest < median:
        highest = min(highest, median + _FAR * (median - lowest))
    if lowest == highest:
        return np.zeros(len(losses))
    spread = (np.minimum(small, highest) - lowest) / (highest - lowest)
    standard = (spread - spread.mean()) / spread.std()
    shaped: NDArray[np.float64] = PowerTransformer().fit_transform(standard[:, np.newaxis])[:, 0]
    return shaped
