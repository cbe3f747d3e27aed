"""A belief of the loss in one piece, or with a part of its own for each level of a choice.

Where a choice decides which of the other parameters matter (a model's kind, say), one piece
averages over what each does beside the others, and gives up good levels by a few bad runs. Parts
know less each, and so are tried longer. Which serves better, the likelihoods tell.

Losses are taken with mean 0, variance 1, and in one of two shapes. Brought near to a bell (Yeo and
Johnson 2000), a few huge losses don't hide the differences between the small ones. But a bell also
stretches the noise of the small ones: where noise is all that tells them apart, losses as they are say
more. Which shape serves better, the likelihoods tell, each with the density that its shape gives to losses.

Points to try by a Gaussian process: the best of searches with few results, and the slower the more.

They are where a surface promises most, by expected improvement. The search for its highest places
knows no slopes, so it works alike on intervals, integers and choices: many points at random, then
the best of them are moved about, less far each time.

Points still running are taken to have the loss expected of them ("kriging
believer"): it leaves the expectation as it is, and nothing more is to be learnt
there. So have failed ones, but at least an average loss: a place where all fail is
left, and one where chance failed is not given up. Of a run that was stopped early
the loss is known only as far as it got: how far is one more column, in which the
process looks along learning curves, and all that is asked for goes to its end.
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
    drawn,
    fit,
    moved,
)

_FAR: Final = 5.0
"""Losses are cut off so many times as far above the median as the best one lies below it."""

_EXACT: Final = 1.48e-8
"""How near a power is to the likeliest one."""
_STEPS: Final = 12
"""A part's fit takes fewer steps than a whole one's: there are many parts, and an ask has but 50 ms."""
_FEWEST: Final = 2
"""A level with fewer results can't be a part of its own."""


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
    bend = _Bend(standard)
    power = bend.likeliest()
    bent = bend.to(power)
    spread = float(bent.std())
    density = (power - 1) * bend.slope - len(bent) * float(np.log(spread))
    return Shaped((bent - bent.mean()) / spread, density)


class _Bend:
    """Yeo and Johnson's transform of losses of which some lie below 0, by its power.

    It is scipy's and scikit-learn's, without what these look after at each of some forty steps: that took
    a fifth of an ask.
    """

    def __init__(self, losses: Column) -> None:
        self._below = losses < 0
        self._logs = np.log1p(np.abs(losses))
        self._greatest = float(np.log1p(20 * np.abs(losses).max()))  # with room for those to come
        self.slope = float((np.sign(losses) * self._logs).sum())

    def to(self, power: float) -> Column:
        """Return the losses bent by a power."""
        powers = np.where(self._below, 2 - power, power)
        flat = np.abs(powers) < np.finfo(float).eps
        steep = np.where(flat, 1.0, powers)
        bent = np.where(flat, self._logs, np.expm1(steep * self._logs) / steep)
        return np.where(self._below, -bent, bent)

    def likeliest(self) -> float:
        """Return the power that makes of the losses what comes likeliest from a bell."""
        limits = np.finfo(float)
        least = (np.log(limits.tiny) - np.log(limits.eps)) / 2 / self._greatest
        most = (np.log(limits.max) + np.log(limits.eps)) / 2 / self._greatest
        within = max(2 - most, least), min(2 - least, most)  # half of a float's exponents is for the variance
        return float(fminbound(self._unlikeliness, *within, xtol=_EXACT))

    def _unlikeliness(self, power: float) -> float:
        variance = float(self.to(power).var())
        if variance < np.finfo(float).tiny:
            return math.inf
        return len(self._logs) / 2 * math.log(variance) - (power - 1) * self.slope


class Parted:
    """What is believed where each level of a choice has a surface of its own."""

    def __init__(self, choice: Choice, parts: Sequence[Surface], losses: Column) -> None:
        self.losses = losses
        self.noise = max(part.noise for part in parts)
        self._choice = choice
        self._parts = parts

    def told(self, columns: Table, losses: Column) -> Parted:
        """Return what is believed after more points."""
        levels = self._choice.levels_in(columns)
        parts = [
            part.told(columns[levels == level], losses[levels == level]) if level in levels else part
            for level, part in enumerate(self._parts)
        ]
        return Parted(self._choice, parts, np.concatenate([self.losses, losses]))

    def mean(self, columns: Table) -> Column:
        """Return the loss expected at each point."""
        return self.mean_and_deviation(columns)[0]

    def mean_and_deviation(self, columns: Table) -> tuple[Column, Column]:
        """Return the loss expected to be seen at each point, and its standard deviation."""
        levels = self._choice.levels_in(columns)
        means, deviations = np.empty(len(columns)), np.empty(len(columns))
        for level in np.unique(levels):
            there = levels == level
            means[there], deviations[there] = self._parts[level].mean_and_deviation(columns[there])
        return means, deviations


Belief = Surface | Parted


def likeliest(columns: Table, losses: Column, choices: Sequence[Choice] = ()) -> Belief:
    """Return what is most likely after the losses, in the shape that makes them likeliest.

    Without noise that is the bell, and no other is tried: a second fit takes as long as the first.
    """
    standard = cut_off(losses)
    belief, likelihood = _likeliest(columns, bell_shaped(standard), choices)
    if belief.noise < NOISY:
        return belief
    other, others_likelihood = _likeliest(columns, Shaped(standard), choices)
    return belief if likelihood >= others_likelihood else other


def _likeliest(columns: Table, shaped: Shaped, choices: Sequence[Choice]) -> tuple[Belief, float]:
    """Return what is most likely of the losses in this shape, and the logarithm of how likely that is."""
    beliefs: list[tuple[Belief, float]] = [fit(columns, shaped.losses), *_parted(columns, shaped, choices)]
    belief, likelihood = max(beliefs, key=lambda each: each[1])
    return belief, likelihood + shaped.density


def _parted(columns: Table, shaped: Shaped, choices: Sequence[Choice]) -> Iterator[tuple[Parted, float]]:
    for choice in choices:
        levels = choice.levels_in(columns)
        there = [levels == level for level in range(choice.size)]
        if min(map(np.count_nonzero, there)) >= _FEWEST:
            fits = [fit(columns[some], shaped.losses[some], most_steps=_STEPS) for some in there]
            parts = [surface for surface, _ in fits]
            yield Parted(choice, parts, shaped.losses), sum(likelihood for _, likelihood in fits)


_DRAWN: Final = 1000
_CLIMBERS: Final = 8
_MOVES: Final = 20
"""So many points are drawn; the best few are moved so many times in each round."""
_REACHES: Final = (0.1, 0.04, 0.016)
"""How far a round's moves go, in lengths of an axis."""

_AVERAGE: Final = 0.0
"""The mean of losses in any shape."""
_TO_THE_END: Final = 3
"""A run that went to its end is taken to have gone so many times further than any that was stopped."""
_RANKS: Final = 200
"""So many of the best points are named, in case that the first ones were tried already."""


def suggestions(
    axes: Sequence[Axis], results: Sequence[Observation], others: Sequence[Observation], *, seed: int
) -> Iterator[tuple[float, ...]]:
    """Return places on the axes to try, best first; `others` are running, or failed."""
    # One thread: on tables this small more only spin, and others need the cores.
    with _thread_pools().limit(limits=1, user_api="blas"):
        surface = _surface(tuple(axes), tuple(results))
        if others:
            surface = _told_of(others, surface, columns_of(axes, _places(others)))
        known = _places([*results, *others])
        best = most_promising(axes, surface, known, np.random.default_rng(seed))
    return map(tuple, best[:_RANKS].tolist())


def _told_of(others: Sequence[Observation], surface: Belief, columns: Table) -> Belief:
    believed = surface.mean(columns)
    failed = np.array([other.loss is not None for other in others])
    return surface.told(columns, np.where(failed, np.maximum(believed, _AVERAGE), believed))


@lru_cache(maxsize=64)
def _surface(axes: tuple[Axis, ...], results: tuple[Observation, ...]) -> Belief:
    """Return the surface fitted to results: the longest step, and the same for all who ask at once."""
    losses = np.array([result.loss for result in results], float)
    columns = columns_of(axes, _places(results))
    if any(result.stopped_at is not None for result in results):
        columns = np.column_stack([columns, _progress([result.stopped_at for result in results])])
    return likeliest(columns, losses, tuple(choices_of(axes)))


def _progress(stopped_at: Sequence[int | None]) -> Column:
    """Return how far runs got, in the logarithm of their iterations; 1: to the end."""
    furthest = max(at for at in stopped_at if at is not None)
    end = math.log1p(_TO_THE_END * furthest)
    return np.array([1.0 if at is None else math.log1p(at) / end for at in stopped_at])


def _places(observations: Sequence[Observation]) -> Table:
    return np.array([observation.places for observation in observations], float)


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()  # kept, for to find the libraries takes longer than to predict


def most_promising(axes: Sequence[Axis], surface: Belief, known: Table, source: Generator) -> Table:
    """Return points to try, the best one first; `known` are those that the surface was told."""
    means = surface.mean(columns_of(axes, known))
    # Over the lowest loss that was seen, by what would be seen: in the end the run that looks best is taken.
    # Where noise is large, a low loss for sure is then worth more than the hope of a lower one.
    lowest = float(surface.losses.min())

    def promise(points: Table) -> Column:
        return log_expected_improvement(*surface.mean_and_deviation(columns_of(axes, points)), lowest)

    near = np.repeat(known[np.argsort(means, kind="stable")[:_CLIMBERS]], _MOVES, axis=0)
    points = np.vstack([drawn(axes, _DRAWN, source), moved(axes, near, _REACHES[-1], source)])
    promises = promise(points)
    for reach in _REACHES:
        climbers = points[_descending(promises)[:_CLIMBERS]]
        more = moved(axes, np.repeat(climbers, _MOVES, axis=0), reach, source)
        points, promises = np.vstack([points, more]), np.concatenate([promises, promise(more)])
    return points[_descending(promises)]


def log_expected_improvement(means: Column, deviations: Column, lowest: float) -> Column:
    """Return the logarithm of how far below `lowest` a loss is expected, counting those above as 0.

    The logarithm still tells points apart where the improvement itself is too small for a float.
    """
    z = np.maximum((lowest - means) / deviations, -1e4)  # below that the tail's two terms cancel out
    hopeful, hopeless = np.maximum(z, 0.0), np.minimum(z, 0.0)
    near = np.log(np.exp(-0.5 * hopeful**2) / math.sqrt(2 * math.pi) + hopeful * ndtr(hopeful))
    ratio = math.sqrt(math.pi / 2) * erfcx(-hopeless / math.sqrt(2))  # of the bell's area to its height
    tail = -0.5 * hopeless**2 - 0.5 * math.log(2 * math.pi) + np.log1p(hopeless * ratio)
    logarithms: Column = np.log(deviations) + np.where(z < 0, tail, near)
    return logarithms


def _descending(values: Column) -> NDArray[np.intp]:
    return np.argsort(-values, kind="stable")
