"""Points as rows of numbers, for models that compute with many at once: drawn, moved, made columns.

A table of places has a row for each point and a place on each axis, as in `axes`.
Columns are what a model measures distances in: every one goes from 0 to 1.

A Gaussian process of the loss.

A Matérn 5/2 kernel with a length for every column and a share of noise, all fitted
by likelihood, to losses with about mean 0 and variance 1. It says what scikit-learn's says, in a
fifth of the time, and without the second that its import takes: distances are taken once, and no
table of slopes is made for each column. A search fits while its runs wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from parallel_hpo.server.search.axes import Axis, IntervalAxis, LevelAxis

Table = NDArray[np.float64]
Column = NDArray[np.float64]

_MOVED: Final = 2
"""A move changes about so many places of a point: moves of all at once seldom lead to a better one."""
_FEW: Final = 5
"""Levels of a choice up to which each is looked at by itself: of more, each has too few results."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice among few levels without order, by where its columns are; two levels have but one."""

    first: int
    size: int

    def levels_in(self, columns: Table) -> NDArray[np.intp]:
        """Return the level of each point."""
        if self.size == 2:
            return np.array(columns[:, self.first] > 0, np.intp)
        levels: NDArray[np.intp] = columns[:, self.first : self.first + self.size].argmax(axis=1)
        return levels


def choices_of(axes: Sequence[Axis]) -> Iterator[Choice]:
    """Yield the axes that are choices among few levels."""
    first = 0
    for axis in axes:
        if isinstance(axis, LevelAxis) and not axis.ordered and axis.levels.size <= _FEW:
            yield Choice(first, axis.levels.size)
        first += axis.columns


def columns_of(axes: Sequence[Axis], places: Table) -> Table:
    """Return the columns of each point; levels without order are all at the same distance."""
    return np.column_stack(
        [part for axis, column in zip(axes, places.T, strict=True) for part in _parts(axis, column)]
    )


def drawn(axes: Sequence[Axis], count: int, source: Generator) -> Table:
    """Return so many points, spread evenly over the places of every axis."""
    return np.column_stack([_drawn(axis, count, source) for axis in axes])


def moved(axes: Sequence[Axis], places: Table, reach: float, source: Generator) -> Table:
    """Return each point with some of its places moved, by about `reach` of an axis's length."""
    changed = source.random(places.shape) < _MOVED / len(axes)
    changed[np.arange(len(places)), source.integers(len(axes), size=len(places))] = True
    elsewhere = [_moved(axis, column, reach, source) for axis, column in zip(axes, places.T, strict=True)]
    return np.where(changed, np.column_stack(elsewhere), places)


def _parts(axis: Axis, column: Column) -> list[Column]:
    if isinstance(axis, LevelAxis) and not axis.ordered and axis.columns > 1:
        return [(column == level) * math.sqrt(0.5) for level in range(axis.levels.size)]
    shares = column / _length(axis)
    return [shares] if axis.span is None else [shares, _logarithms(shares, axis.span)]


def _drawn(axis: Axis, count: int, source: Generator) -> Column:
    """Return places drawn evenly; every other one by its logarithm, where values span orders of magnitude."""
    shares = source.random(count)
    if axis.span is not None:
        shares[::2] = _shares(shares[::2], axis.span)
    if isinstance(axis, LevelAxis):
        return np.floor(shares * axis.levels.size)
    return _settled(axis, shares)


def _moved(axis: Axis, column: Column, reach: float, source: Generator) -> Column:
    if isinstance(axis, LevelAxis) and not axis.ordered:
        return _drawn(axis, len(column), source)
    shares = column / _length(axis)
    moved = _thrown(shares, reach, source)
    if axis.span is not None:
        moved[::2] = _shares(_thrown(_logarithms(shares[::2], axis.span), reach, source), axis.span)
    if isinstance(axis, IntervalAxis):
        return _settled(axis, moved)
    steps = (moved - shares) * _length(axis)
    return np.clip(column + np.copysign(np.maximum(np.abs(steps).round(), 1), steps), 0, _length(axis))


def _thrown(shares: Column, reach: float, source: Generator) -> Column:
    # Thrown back from the ends, not held there: or many would meet in the very same corner.
    inside: Column = np.maximum(1 - np.abs(1 - np.abs(shares + source.normal(0, reach, len(shares)))), 0)
    return inside


def _length(axis: Axis) -> int:
    return axis.levels.size - 1 if isinstance(axis, LevelAxis) else 1


def _logarithms(shares: Column, span: float) -> Column:
    """Return for shares of an even range those of its logarithms' range, from 0 to 1 alike."""
    logarithms: Column = np.log1p(shares * (span - 1)) / math.log(span)
    return logarithms


def _shares(logarithms: Column, span: float) -> Column:
    """Return the shares whose logarithms these are."""
    shares: Column = np.expm1(logarithms * math.log(span)) / (span - 1)
    return np.clip(shares, 0, 1)


def _settled(axis: IntervalAxis, column: Column) -> Column:
    """Return the places that are really taken: those of the values rounded to the axis's `q`."""
    if axis.distribution.q is None:
        return column
    return np.array([axis.place(axis.value(place)) for place in column.tolist()])


_JITTER: Final = 1e-10
"""Added to the diagonal, as scikit-learn does, so that equal points can be told apart from an error."""

_STRENGTH: Final = (0.01, 100.0)
_LENGTH: Final = (0.03, 50.0)
_NOISE: Final = (1e-6, 1.0)
"""Bounds of what is fitted, for columns from 0 to 1 and losses of variance 1."""
_LIKELY_LENGTH: Final = 1.0
"""Before the fit, for one column; it grows with the root of their number (Hvarfner et al. 2024)."""
_LIKELY_NOISE: Final = 1e-4
NOISY: Final = 0.01
"""The share of noise in the losses' variance from which on it is taken for noise."""
_FITTING_STEPS: Final = (8, 30)
"""At least and at most: a fit that is not quite at its end serves as well."""
_FITTING_EFFORT: Final = 1_000_000
"""Steps × points² × columns (10 at least): so many are done in time for an ask of 50 ms."""


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


class Surface:
    """What is believed of the loss at every point, after some points were told, in their unit."""

    def __init__(self, theta: Column, columns: Table, losses: Column) -> None:
        self.columns = columns
        self.losses = losses
        self.noise = math.exp(theta[-1])
        self._theta = theta
        self._strength = math.exp(theta[0])
        self._lengths = np.exp(theta[1:-1])

    @cached_property
    def _factor(self) -> Table:
        """Made when it is first asked: of all that are fitted for a suggestion, one is looked at."""
        own = self._smooth(self.columns) + (self.noise + _JITTER) * np.eye(len(self.losses))
        factor: Table = cho_factor(own, lower=True, check_finite=False)[0]
        return factor

    @cached_property
    def _pulls(self) -> Column:
        pulls: Column = cho_solve((self._factor, True), self.losses, check_finite=False)
        return pulls

    def _smooth(self, columns: Table) -> Table:
        """Return how far the loss at each point goes along with that at each of those that were told."""
        root = math.sqrt(5) * cdist(columns / self._lengths, self.columns / self._lengths)
        smooth: Table = self._strength * (1 + root + root**2 / 3) * np.exp(-root)
        return smooth

    def told(self, columns: Table, losses: Column) -> Surface:
        """Return the surface after more points, with the same kernel."""
        columns = np.vstack([self.columns, self._whole(columns)])
        return Surface(self._theta, columns, np.concatenate([self.losses, losses]))

    def mean(self, columns: Table) -> Column:
        """Return the loss expected at each point."""
        means: NDArray[np.float64] = self._smooth(self._whole(columns)) @ self._pulls
        return means

    def mean_and_deviation(self, columns: Table) -> tuple[Column, Column]:
        """Return the loss expected to be seen at each point, and its standard deviation.

        Noise is part of that where there is any; what is fitted to none would make a point that
        is known, or running, look as if there were more to find.
        """
        smooth = self._smooth(self._whole(columns))
        known = solve_triangular(self._factor, smooth.T, lower=True, check_finite=False)
        noise = self.noise if self.noise >= NOISY else 0.0
        variances = self._strength + noise - np.square(known).sum(axis=0)
        return smooth @ self._pulls, np.sqrt(np.maximum(variances, 1e-12))

    def _whole(self, columns: Table) -> Table:
        """Return the columns with 1 in the one that they lack: how far a run gets, which is to its end."""
        lacking = self.columns.shape[1] - columns.shape[1]
        return np.column_stack([columns, np.ones((len(columns), lacking))]) if lacking else columns


def fit(columns: Table, losses: Column, *, most_steps: int = _FITTING_STEPS[1]) -> tuple[Surface, float]:
    """Return the surface that is most likely after the losses, and the logarithm of how likely that is."""
    width = columns.shape[1]
    likelihood = Likelihood(columns, losses)

    # Theta are logarithms: of the strength, the lengths, and the noise.
    first = np.log([1.0, *[1.0] * width, 1e-3])
    bounds = np.log([_STRENGTH, *[_LENGTH] * width, _NOISE])
    likely = np.log([1.0, *[_LIKELY_LENGTH * math.sqrt(width)] * width, _LIKELY_NOISE])
    spread = np.array([1.0, *[math.sqrt(3.0)] * width, 2.0])

    def unlikeliness(theta: Column) -> tuple[float, Column]:
        value, slope = likelihood(theta)
        off = (theta - likely) / spread
        return 0.5 * float(off @ off) - value, off / spread - slope

    steps = max(_FITTING_STEPS[0], min(most_steps, _FITTING_EFFORT // (len(losses) ** 2 * max(width, 10))))
    best = minimize(
        unlikeliness,
        first,
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"maxiter": steps},
    )
    return Surface(best.x, columns, losses), -float(best.fun)
