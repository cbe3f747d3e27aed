"""Where a surface promises most: expected improvement, and the search for its highest places.

The search knows no slopes, so it works alike on intervals, integers and choices:
many points at random, then the best of them are moved about, less far each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

from parallel_hpo.search.axes import Axis
from parallel_hpo.search.columns import Column, Table, columns_of, drawn, moved
from parallel_hpo.search.parted import Belief

_DRAWN: Final = 1000
_CLIMBERS: Final = 8
_MOVES: Final = 20
"""So many points are drawn; the best few are moved so many times in each round."""
_REACHES: Final = (0.1, 0.04, 0.016)
"""How far a round's moves go, in lengths of an axis."""


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
