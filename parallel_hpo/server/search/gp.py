"""The model of `bayes`: Gaussian processes and expected improvement.

Surfaces. The loss gets one Gaussian process, or one for each level of a choice. Where a choice, such as the
kind of model, decides which other parameters matter, a single process averages over the levels and abandons
good levels after a few bad runs. Separate processes know less each, and so try each level longer: they expect
short length scales, because few results of a level say little about the rest of it.

Shapes. Losses are scaled to mean 0 and variance 1, and taken either as they are or transformed towards a
normal distribution (Yeo and Johnson 2000). Transformed, a few huge losses don't hide the differences between
small ones, but the noise of small ones is magnified. The likelihood decides between surfaces, and between
shapes (with the density of the transform).

Many results. Of more than a hundred, the model learns from the best ones and from the nearest to the best
one, and searches a trust region around it, as wide as those lie. The region shrinks as suggestions come
closer to the best one, and grows as they leave it. (In TuRBO, Eriksson et al. 2019, it depends on successes
and failures instead.)

Search. Suggestions maximize the expected improvement. The search uses no gradients, so it works the same on
intervals, integers and choices: it draws random points, then moves the best ones by smaller and smaller
steps.

Other runs. Running points are assumed to have their expected loss ("kriging believer"). Failed ones are too,
but at least the average loss, so that the search leaves a region where all runs fail, but not one where a run
failed by chance. Runs that were stopped early add a column, their progress, by which the process follows
learning curves; suggestions are evaluated at the end of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.optimize import fminbound
from scipy.special import erfcx, ndtr
from threadpoolctl import ThreadpoolController

from parallel_hpo.server.search.axes import Axis, Observation
from parallel_hpo.server.search.gaussian import (
    NOISY,
    Choice,
    Column,
    Surface,
    Table,
    choices_of,
    columns_of,
    draw_points,
    fit,
    move_points,
    narrow_axes,
)

_MAX_EFFORT: Final = 100_000
"""Maximum results² × columns of a model, for an ask of 50 ms: 100 results for 10 columns."""
_CHEAP_COLUMNS: Final = 10
"""Number of columns below which a fit gets hardly faster, because other parts of it dominate."""
_BEST: Final = 0.4
"""Fraction of a model's results that are the best ones; the others are the nearest to the best one."""

_CUT_OFF: Final = 5.0
"""Cut-off of high losses: their distance from the median, in distances of the best loss from the median."""

_TOLERANCE: Final = 1.48e-8
"""Tolerance of the fitted power."""
_PREFERENCE: Final = 5.0
"""Minimum gain of log-likelihood for a single surface; if it is wrong, good levels are abandoned for long."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """Transformed losses; `density`: the logarithm of the transform's Jacobian determinant."""

    losses: Column
    density: float = 0.0


def cut_off(losses: Column) -> Column:
    """Return the losses without high outliers, scaled to mean 0 and variance 1; 0 if all are equal."""
    small = losses / 16  # because the difference of two floats, or five times it, may overflow
    lowest, median, highest = small.min(), np.median(small), small.max()
    if lowest < median:
        highest = min(highest, median + _CUT_OFF * (median - lowest))
    if lowest == highest:
        return np.zeros(len(losses))
    spread = (np.minimum(small, highest) - lowest) / (highest - lowest)
    standard: NDArray[np.float64] = (spread - spread.mean()) / spread.std()
    return standard


def bell_shaped(standard: Column) -> Shaped:
    """Transform `cut_off` losses towards a normal distribution; their order is kept."""
    if not standard.any():
        return Shaped(standard)
    transform = _YeoJohnson(standard)
    power = transform.likeliest()
    bent = transform.transform(power)
    spread = float(bent.std())
    density = (power - 1) * transform.slope - len(bent) * float(np.log(spread))
    return Shaped((bent - bent.mean()) / spread, density)


class _YeoJohnson:
    """Yeo and Johnson's power transform of losses, some of which are negative.

    The same as in scipy and scikit-learn, without their checks at each of about forty steps, which took a
    fifth of an ask.
    """

    def __init__(self, losses: Column) -> None:
        self._below = losses < 0
        self._logs = np.log1p(np.abs(losses))
        self._greatest = float(np.log1p(20 * np.abs(losses).max()))  # with a margin for later losses
        self.slope = float((np.sign(losses) * self._logs).sum())

    def transform(self, power: float) -> Column:
        """Return the losses transformed by a power."""
        powers = np.where(self._below, 2 - power, power)
        flat = np.abs(powers) < np.finfo(float).eps
        steep = np.where(flat, 1.0, powers)
        bent = np.where(flat, self._logs, np.expm1(steep * self._logs) / steep)
        return np.where(self._below, -bent, bent)

    def likeliest(self) -> float:
        """Return the power with the maximum likelihood of a normal distribution."""
        limits = np.finfo(float)
        least = (np.log(limits.tiny) - np.log(limits.eps)) / 2 / self._greatest
        most = (np.log(limits.max) + np.log(limits.eps)) / 2 / self._greatest
        within = max(2 - most, least), min(2 - least, most)  # half of a float's exponents: for the variance
        return float(fminbound(self._negative_likelihood, *within, xtol=_TOLERANCE))

    def _negative_likelihood(self, power: float) -> float:
        variance = float(self.transform(power).var())
        if variance < np.finfo(float).tiny:
            return math.inf
        return len(self._logs) / 2 * math.log(variance) - (power - 1) * self.slope


class PartedSurface:
    """The posterior with a separate surface for each level of a choice."""

    def __init__(self, choice: Choice, parts: Sequence[Surface], losses: Column) -> None:
        self.losses = losses
        self.noise = max(part.noise for part in parts)
        self._choice = choice
        self._parts = parts

    def with_points(self, columns: Table, losses: Column) -> PartedSurface:
        """Return the posterior given more points, with the same kernels."""
        levels = self._choice.levels_in(columns)
        parts = [
            part.with_points(columns[levels == level], losses[levels == level]) if level in levels else part
            for level, part in enumerate(self._parts)
        ]
        return PartedSurface(self._choice, parts, np.concatenate([self.losses, losses]))

    def mean(self, columns: Table) -> Column:
        """Return the expected loss at each point."""
        return self.mean_and_deviation(columns)[0]

    def mean_and_deviation(self, columns: Table) -> tuple[Column, Column]:
        """Return the expected loss at each point, and the standard deviation of an observation there."""
        levels = self._choice.levels_in(columns)
        means, deviations = np.empty(len(columns)), np.empty(len(columns))
        for level in np.unique(levels):
            there = levels == level
            means[there], deviations[there] = self._parts[level].mean_and_deviation(columns[there])
        return means, deviations


Belief = Surface | PartedSurface


def likeliest(columns: Table, losses: Column, choices: Sequence[Choice] = ()) -> Belief:
    """Return the most likely model over both shapes of the losses.

    Without noise, only the transformed shape is fitted, because a second fit takes as long as the first.
    """
    standard = cut_off(losses)
    belief, likelihood = _likeliest(columns, bell_shaped(standard), choices)
    if belief.noise < NOISY:
        return belief
    other, others_likelihood = _likeliest(columns, Shaped(standard), choices)
    return belief if likelihood >= others_likelihood else other


def _likeliest(columns: Table, shaped: Shaped, choices: Sequence[Choice]) -> tuple[Belief, float]:
    """Return the most likely model for losses in one shape, and its log-likelihood."""
    beliefs: list[tuple[Belief, float]] = [fit(columns, shaped.losses), *_parted(columns, shaped, choices)]
    belief, likelihood = max(beliefs, key=lambda each: each[1])
    return belief, likelihood + shaped.density


def _parted(
    columns: Table, shaped: Shaped, choices: Sequence[Choice]
) -> Iterator[tuple[PartedSurface, float]]:
    for choice in choices:
        levels = choice.levels_in(columns)
        there = [levels == level for level in range(choice.size)]
        if all(map(np.any, there)):
            fits = [fit(columns[some], shaped.losses[some], of_part=True) for some in there]
            parts = [surface for surface, _ in fits]
            yield PartedSurface(choice, parts, shaped.losses), _PREFERENCE + sum(value for _, value in fits)


_DRAWN: Final = 1000
_CLIMBERS: Final = 8
_MOVES: Final = 20
"""Number of random points, of best points that each round moves, and of moves of each of them."""
_STEP_SIZES: Final = (0.1, 0.04, 0.016)
"""Standard deviation of each round's moves, as a fraction of an axis's length."""

_AVERAGE: Final = 0.0
"""Mean of the losses in any shape."""
_COMPLETE_LENGTH: Final = 3
"""Assumed length of complete runs, in lengths of the longest stopped one."""
_SUGGESTIONS: Final = 200
"""Number of suggestions returned, because the first ones may be known already."""


def suggestions(
    axes: Sequence[Axis], results: Sequence[Observation], others: Sequence[Observation], *, seed: int
) -> Iterator[tuple[float, ...]]:
    """Return the coordinates of points to try, best first; `others` are running or failed."""
    # One thread: on tables this small more threads only spin, and other processes need the cores.
    with _thread_pools().limit(limits=1, user_api="blas"):
        axes, results = _around_the_best(axes, results)
        surface = _surface(tuple(axes), tuple(results))
        if others:
            surface = _with_others(others, surface, columns_of(axes, _coordinates(others)))
        known = _coordinates([*results, *others])
        best = most_promising(axes, surface, known, np.random.default_rng(seed))
    return map(tuple, best[:_SUGGESTIONS].tolist())


def _around_the_best(
    axes: Sequence[Axis], results: Sequence[Observation]
) -> tuple[Sequence[Axis], Sequence[Observation]]:
    """Return what a model learns from: all, or the results near the best one, and the axes around it."""
    count = math.isqrt(_MAX_EFFORT // max(sum(axis.columns for axis in axes), _CHEAP_COLUMNS))
    if len(results) <= count:
        return axes, results
    points = _coordinates(results)
    columns = columns_of(axes, points)
    by_loss = np.argsort(np.array([result.loss for result in results], float), kind="stable")
    distances = np.square(columns - columns[by_loss[0]]).sum(axis=1)
    nearest = np.argsort(distances, kind="stable")
    few = round(_BEST * count)
    chosen = list(dict.fromkeys([*by_loss[:few].tolist(), *nearest.tolist()]))[:count]
    near = points[nearest[: count - few]]
    return narrow_axes(axes, points[by_loss[0]], near), [results[number] for number in sorted(chosen)]


def _with_others(others: Sequence[Observation], surface: Belief, columns: Table) -> Belief:
    believed = surface.mean(columns)
    failed = np.array([other.loss is not None for other in others])
    return surface.with_points(columns, np.where(failed, np.maximum(believed, _AVERAGE), believed))


@lru_cache(maxsize=64)
def _surface(axes: tuple[Axis, ...], results: tuple[Observation, ...]) -> Belief:
    """Fit a model to results; cached, as it is the slowest step and the same for simultaneous asks."""
    losses = np.array([result.loss for result in results], float)
    columns = columns_of(axes, _coordinates(results))
    if any(result.stopped_at is not None for result in results):
        columns = np.column_stack([columns, _progress([result.stopped_at for result in results])])
    return likeliest(columns, losses, tuple(choices_of(axes)))


def _progress(stopped_at: Sequence[int | None]) -> Column:
    """Return the progress of runs, by the logarithm of their iterations; 1 for complete runs."""
    furthest = max(at for at in stopped_at if at is not None)
    end = math.log1p(_COMPLETE_LENGTH * furthest)
    return np.array([1.0 if at is None else math.log1p(at) / end for at in stopped_at])


def _coordinates(observations: Sequence[Observation]) -> Table:
    return np.array([observation.coordinates for observation in observations], float)


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()  # cached: finding the libraries takes longer than a prediction


def most_promising(axes: Sequence[Axis], surface: Belief, known: Table, source: Generator) -> Table:
    """Return points to try, best first; `known`: the points of which the surface knows losses."""
    means = surface.mean(columns_of(axes, known))
    # The improvement of the observed loss over the lowest observed one, as the best-looking run is chosen in
    # the end. With large noise, a certain low loss is then worth more than the chance of a lower one.
    lowest = float(surface.losses.min())

    def promise(points: Table) -> Column:
        return log_expected_improvement(*surface.mean_and_deviation(columns_of(axes, points)), lowest)

    near = np.repeat(known[np.argsort(means, kind="stable")[:_CLIMBERS]], _MOVES, axis=0)
    points = np.vstack([draw_points(axes, _DRAWN, source), move_points(axes, near, _STEP_SIZES[-1], source)])
    promises = promise(points)
    for reach in _STEP_SIZES:
        climbers = points[_descending(promises)[:_CLIMBERS]]
        more = move_points(axes, np.repeat(climbers, _MOVES, axis=0), reach, source)
        points, promises = np.vstack([points, more]), np.concatenate([promises, promise(more)])
    return points[_descending(promises)]


def log_expected_improvement(means: Column, deviations: Column, lowest: float) -> Column:
    """Return the logarithm of the expected improvement over `lowest`.

    The logarithm still differs between points where the improvement itself is too small for a float.
    """
    z = np.maximum((lowest - means) / deviations, -1e4)  # below this the tail's two terms cancel out
    hopeful, hopeless = np.maximum(z, 0.0), np.minimum(z, 0.0)
    near = np.log(np.exp(-0.5 * hopeful**2) / math.sqrt(2 * math.pi) + hopeful * ndtr(hopeful))
    ratio = math.sqrt(math.pi / 2) * erfcx(-hopeless / math.sqrt(2))  # of the density's tail to its height
    tail = -0.5 * hopeless**2 - 0.5 * math.log(2 * math.pi) + np.log1p(hopeless * ratio)
    logarithms: Column = np.log(deviations) + np.where(z < 0, tail, near)
    return logarithms


def _descending(values: Column) -> NDArray[np.intp]:
    return np.argsort(-values, kind="stable")
