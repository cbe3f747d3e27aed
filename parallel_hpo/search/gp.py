"""Points to try by a Gaussian process: the best of searches with few results, and the slower the more.

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
from threadpoolctl import ThreadpoolController

from parallel_hpo.search.axes import Axis, Observation
from parallel_hpo.search.columns import Column, Table, choices_of, columns_of
from parallel_hpo.search.improvement import most_promising
from parallel_hpo.search.parted import Belief, likeliest

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
