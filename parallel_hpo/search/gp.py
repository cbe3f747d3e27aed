"""Points to try by a Gaussian process: the best of searches with few results, and the slower the more.

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
from functools import cache, lru_cache
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr
from threadpoolctl import ThreadpoolController

from parallel_hpo.search.axes import Axis, Observation
from parallel_hpo.search.columns import Column, Table, choices_of, columns_of, drawn, moved
from parallel_hpo.search.parted import Belief, likeliest

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
