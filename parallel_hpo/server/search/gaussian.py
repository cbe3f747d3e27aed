"""A Gaussian process of the loss, and the random points at which it is evaluated.

A table of coordinates has a row per point and a column per axis, as in `axes`. Models measure distances in
`columns_of` these, which go from 0 to 1 over the part of each axis that is searched.

The kernel is a Matérn 5/2 plus noise, fitted by maximum likelihood to losses with about mean 0 and variance
1. It has a length scale per column, or one for all columns if the losses don't clearly prefer many: a few
dozen results can't tell the length scales of twenty parameters that all matter. Results equal scikit-learn's
in a fifth of the time, and without the second that its import takes: distances are computed once, and no
table of gradients is made for each column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, TypeGuard

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from parallel_hpo.server.search.axes import Axis, IntervalAxis, LevelAxis

Table = NDArray[np.float64]
Column = NDArray[np.float64]

_CHANGED: Final = 2
"""Average number of coordinates that a move changes; changes of all at once rarely improve a point."""
_MAX_PARTS: Final = 5
"""Maximum levels of a choice that may get a surface each; with more, each has too few results."""
_PART: Final = 2.5
"""Length of an axis's searched part, in root mean squares of the results' distances from its centre."""
_MIN_PART: Final = 1e-4
"""Minimum length of an axis's searched part, as a fraction of the axis."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns of a choice among few unordered levels: one per level, or a single one for two levels."""

    first: int
    size: int

    def levels_in(self, columns: Table) -> NDArray[np.intp]:
        """Return the level of each point."""
        if self.size == 2:
            return np.array(columns[:, self.first] > 0, np.intp)
        levels: NDArray[np.intp] = columns[:, self.first : self.first + self.size].argmax(axis=1)
        return levels


def choices_of(axes: Sequence[Axis]) -> Iterator[Choice]:
    """Yield the choices among few unordered levels."""
    first = 0
    for axis in axes:
        if isinstance(axis, LevelAxis) and not axis.ordered and axis.levels.size <= _MAX_PARTS:
            yield Choice(first, axis.levels.size)
        first += axis.columns


def columns_of(axes: Sequence[Axis], coordinates: Table) -> Table:
    """Return the columns of each point; all unordered levels have the same distance from each other."""
    return np.column_stack(
        [
            part / (axis.part[1] - axis.part[0])
            for axis, column in zip(axes, coordinates.T, strict=True)
            for part in _parts(axis, column)
        ]
    )


def narrow_axes(axes: Sequence[Axis], best: Column, near: Table) -> list[Axis]:
    """Return the axes with the part to search around the best point, as wide as the points near to it."""
    numeric = [number for number, axis in enumerate(axes) if not _is_unordered(axis)]
    if not numeric:
        return list(axes)
    centres = np.array([_parts(axes[number], best[number : number + 1])[-1][0] for number in numeric])
    places = np.column_stack([_parts(axes[number], near[:, number])[-1] for number in numeric])
    length = min(max(_PART * math.sqrt(np.square(places - centres).mean()), _MIN_PART), 1.0)
    narrowed = list(axes)
    for number, centre in zip(numeric, centres, strict=True):
        low = min(max(float(centre) - length / 2, 0.0), 1 - length)
        narrowed[number] = replace(axes[number], part=(low, low + length))
    return narrowed


def draw_points(axes: Sequence[Axis], count: int, source: Generator) -> Table:
    """Draw `count` points, uniformly on the searched part of each axis."""
    return np.column_stack([_drawn(axis, count, source) for axis in axes])


def move_points(axes: Sequence[Axis], coordinates: Table, reach: float, source: Generator) -> Table:
    """Return each point with some of its coordinates moved by about `reach` of the part's length."""
    changed = source.random(coordinates.shape) < _CHANGED / len(axes)
    changed[np.arange(len(coordinates)), source.integers(len(axes), size=len(coordinates))] = True
    elsewhere = [
        _moved(axis, column, reach, source) for axis, column in zip(axes, coordinates.T, strict=True)
    ]
    return np.where(changed, np.column_stack(elsewhere), coordinates)


def _is_unordered(axis: Axis) -> TypeGuard[LevelAxis]:
    return isinstance(axis, LevelAxis) and not axis.ordered


def _parts(axis: Axis, column: Column) -> list[Column]:
    if _is_unordered(axis) and axis.columns > 1:
        return [(column == level) * math.sqrt(0.5) for level in range(axis.levels.size)]
    shares = column / _length(axis)
    return [shares] if axis.span is None else [shares, _to_logarithms(shares, axis.span)]


def _drawn(axis: Axis, count: int, source: Generator) -> Column:
    """Draw coordinates uniformly, on axes with a `span` every other one log-uniformly."""
    low, high = axis.part
    shares = source.random(count)
    if axis.span is None:
        shares = low + shares * (high - low)
    else:
        first, last = _from_logarithms(np.array(axis.part), axis.span)
        logarithms = low + shares[::2] * (high - low)
        shares = first + shares * (last - first)
        shares[::2] = _from_logarithms(logarithms, axis.span)
    if isinstance(axis, LevelAxis):
        return np.floor(shares * axis.levels.size)
    return _rounded(axis, shares)


def _moved(axis: Axis, column: Column, reach: float, source: Generator) -> Column:
    if _is_unordered(axis):
        return _drawn(axis, len(column), source)
    shares = column / _length(axis)
    reach *= axis.part[1] - axis.part[0]
    moved = _reflected(shares, reach, source)
    if axis.span is not None:
        moved[::2] = _from_logarithms(
            _reflected(_to_logarithms(shares[::2], axis.span), reach, source), axis.span
        )
    if isinstance(axis, IntervalAxis):
        return _rounded(axis, moved)
    steps = (moved - shares) * _length(axis)
    return np.clip(column + np.copysign(np.maximum(np.abs(steps).round(), 1), steps), 0, _length(axis))


def _reflected(shares: Column, reach: float, source: Generator) -> Column:
    # Reflected at the ends: with clipping, many points would end in the same corner.
    inside: Column = np.maximum(1 - np.abs(1 - np.abs(shares + source.normal(0, reach, len(shares)))), 0)
    return inside


def _length(axis: Axis) -> int:
    return axis.levels.size - 1 if isinstance(axis, LevelAxis) else 1


def _to_logarithms(shares: Column, span: float) -> Column:
    """Convert fractions of a linear range to fractions of its logarithmic range."""
    logarithms: Column = np.log1p(shares * (span - 1)) / math.log(span)
    return logarithms


def _from_logarithms(logarithms: Column, span: float) -> Column:
    """Convert fractions of a logarithmic range to fractions of its linear range."""
    shares: Column = np.expm1(logarithms * math.log(span)) / (span - 1)
    return np.clip(shares, 0, 1)


def _rounded(axis: IntervalAxis, column: Column) -> Column:
    """Return the coordinates of the values after rounding to the axis's `q`."""
    if axis.distribution.q is None:
        return column
    return np.array([axis.coordinate(axis.value(coordinate)) for coordinate in column.tolist()])


_JITTER: Final = 1e-10
"""Added to the kernel's diagonal, as scikit-learn does, so that equal points don't make it singular."""

_STRENGTH: Final = (0.01, 100.0)
_LENGTH: Final = (0.03, 50.0)
_NOISE: Final = (1e-6, 1.0)
"""Bounds of the fitted parameters, for columns from 0 to 1 and losses of variance 1."""
_LIKELY_NOISE: Final = 1e-4
NOISY: Final = 0.01
"""Minimum noise, as a fraction of the losses' variance, for losses to count as noisy."""
_FITTING_STEPS: Final = (8, 30)
"""Minimum and maximum steps of a fit; one that hasn't quite converged is good enough."""
_FITTING_EFFORT: Final = 1_000_000
"""Maximum steps × points² × columns (at least 10) for an ask of 50 ms."""
_PREFERENCE: Final = 0.8
"""Minimum gain of log-likelihood for each length scale more than one."""


class Likelihood:
    """The likelihood of losses at points, by theta: the logarithms of strength, length scales and noise."""

    def __init__(self, columns: Table, losses: Column) -> None:
        self._losses = losses
        apart = columns.T[:, :, np.newaxis] - columns.T[:, np.newaxis, :]
        self._squares = np.square(apart).reshape(columns.shape[1], -1)

    def tied(self) -> Likelihood:
        """Return the likelihood with a single length scale for all columns."""
        tied = copy(self)
        tied._squares = self._squares.sum(axis=0, keepdims=True)
        return tied

    def __call__(self, theta: Column) -> tuple[float, Column]:
        """Return the log-likelihood and its gradient; minus infinity if the kernel can't be inverted."""
        count = len(self._losses)
        strength, noise = math.exp(theta[0]), math.exp(theta[-1])
        scales = np.exp(-2 * theta[1:-1])
        root = np.sqrt(5 * (scales @ self._squares)).reshape(count, count)
        falling = strength * np.exp(-root)
        smooth = falling * (1 + root + root**2 / 3)
        factor, failed = dpotrf(smooth + (noise + _JITTER) * np.eye(count), lower=True)
        if failed:
            return -math.inf, np.zeros_like(theta)
        triangle = np.tril(dpotri(factor, lower=True)[0])
        inverse = triangle + np.tril(triangle, -1).T
        pulls = inverse @ self._losses
        value = (
            -0.5 * self._losses @ pulls - np.log(np.diag(factor)).sum() - count / 2 * math.log(2 * math.pi)
        )

        weights = 0.5 * (np.outer(pulls, pulls) - inverse)  # the gradient by each entry of the kernel
        by_lengths = self._squares @ (weights * falling * (1 + root)).ravel() * scales * (5 / 3)
        by_noise = noise * float(np.trace(weights))
        return float(value), np.array([float((weights * smooth).sum()), *by_lengths, by_noise])


class Surface:
    """The posterior of the loss at every point, given the losses at some points."""

    def __init__(self, theta: Column, columns: Table, losses: Column) -> None:
        self.columns = columns
        self.losses = losses
        self.noise = math.exp(theta[-1])
        self._theta = theta
        self._strength = math.exp(theta[0])
        self._lengths = np.exp(theta[1:-1])

    @cached_property
    def _factor(self) -> Table:
        """Computed on first use: of all surfaces fitted for a suggestion, only one is used."""
        own = self._smooth(self.columns) + (self.noise + _JITTER) * np.eye(len(self.losses))
        factor: Table = cho_factor(own, lower=True, check_finite=False)[0]
        return factor

    @cached_property
    def _pulls(self) -> Column:
        pulls: Column = cho_solve((self._factor, True), self.losses, check_finite=False)
        return pulls

    def _smooth(self, columns: Table) -> Table:
        """Return the covariance of the loss at each point with that at each known point, without noise."""
        root = math.sqrt(5) * cdist(columns / self._lengths, self.columns / self._lengths)
        smooth: Table = self._strength * (1 + root + root**2 / 3) * np.exp(-root)
        return smooth

    def with_points(self, columns: Table, losses: Column) -> Surface:
        """Return the posterior given more points, with the same kernel."""
        columns = np.vstack([self.columns, self._whole(columns)])
        return Surface(self._theta, columns, np.concatenate([self.losses, losses]))

    def mean(self, columns: Table) -> Column:
        """Return the expected loss at each point."""
        means: NDArray[np.float64] = self._smooth(self._whole(columns)) @ self._pulls
        return means

    def mean_and_deviation(self, columns: Table) -> tuple[Column, Column]:
        """Return the expected loss at each point, and the standard deviation of an observation there.

        Noise is included only if the losses are noisy. Otherwise the small fitted noise would make known and
        running points look worth another run.
        """
        smooth = self._smooth(self._whole(columns))
        known = solve_triangular(self._factor, smooth.T, lower=True, check_finite=False)
        noise = self.noise if self.noise >= NOISY else 0.0
        variances = self._strength + noise - np.square(known).sum(axis=0)
        return smooth @ self._pulls, np.sqrt(np.maximum(variances, 1e-12))

    def _whole(self, columns: Table) -> Table:
        """Add the missing column of progress, if any, with 1: a run until its end."""
        lacking = self.columns.shape[1] - columns.shape[1]
        return np.column_stack([columns, np.ones((len(columns), lacking))]) if lacking else columns


def fit(columns: Table, losses: Column, *, of_part: bool = False) -> tuple[Surface, float]:
    """Return the surface with the maximum likelihood, and its log-likelihood.

    `of_part`: for a part of the results, where some columns don't matter; in fewer steps, as parts are many.
    """
    width = columns.shape[1]
    fewest, most = _FITTING_STEPS
    most = fewest if of_part else most
    steps = max(fewest, min(most, _FITTING_EFFORT // (len(losses) ** 2 * max(width, 10))))
    likely = 1.0 if of_part else math.sqrt(width)  # as Hvarfner et al. 2024
    likelihood = Likelihood(columns, losses)
    theta, value = _maximize(likelihood, width, likely, steps)
    if width > 1 and not of_part:
        tied, its_value = _maximize(likelihood.tied(), 1, likely, steps)
        if its_value >= value - _PREFERENCE * (width - 1):
            theta, value = np.array([tied[0], *[tied[1]] * width, tied[2]]), its_value
    return Surface(theta, columns, losses), value


def _maximize(likelihood: Likelihood, lengths: int, likely_length: float, steps: int) -> tuple[Column, float]:
    """Return the likeliest logarithms of strength, length scales and noise, and their log-likelihood."""
    first = np.log([1.0, *[1.0] * lengths, 1e-3])
    bounds = np.log([_STRENGTH, *[_LENGTH] * lengths, _NOISE])
    likely = np.log([1.0, *[likely_length] * lengths, _LIKELY_NOISE])
    spread = np.array([1.0, *[math.sqrt(3.0)] * lengths, 2.0])

    def _negative_likelihood(theta: Column) -> tuple[float, Column]:
        value, slope = likelihood(theta)
        off = (theta - likely) / spread
        return 0.5 * float(off @ off) - value, off / spread - slope

    options = {"maxiter": steps}
    best = minimize(_negative_likelihood, first, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
    return best.x, -float(best.fun)
