"""Points as rows of numbers, for models that compute with many at once: drawn, moved, made columns.

A table of places has a row for each point and a place on each axis, as in `axes`.
Columns are what a model measures distances in: every one goes from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from parallel_hpo.search.axes import Axis, IntervalAxis, LevelAxis

Table = NDArray[np.float64]
Column = NDArray[np.float64]

_MOVED: Final = 2
"""A move changes about so many places of a point: moves of all at once seldom lead to a better one."""


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
    if not isinstance(axis, LevelAxis):
        return [column]
    if axis.columns == 1:
        return [column / (axis.levels.size - 1)]
    return [(column == level) * math.sqrt(0.5) for level in range(axis.levels.size)]


def _drawn(axis: Axis, count: int, source: Generator) -> Column:
    if isinstance(axis, LevelAxis):
        return np.floor(source.random(count) * axis.levels.size)
    return _settled(axis, source.random(count))


def _moved(axis: Axis, column: Column, reach: float, source: Generator) -> Column:
    if isinstance(axis, IntervalAxis):
        # Thrown back from the ends, not held there: or many would meet in the very same corner.
        inside = 1 - np.abs(1 - np.abs(column + source.normal(0, reach, len(column))))
        return _settled(axis, np.maximum(inside, 0))
    if not axis.ordered:
        return _drawn(axis, len(column), source)
    last = axis.levels.size - 1
    steps = source.normal(0, reach * last, len(column))
    return np.clip(column + np.copysign(np.maximum(np.abs(steps).round(), 1), steps), 0, last)


def _settled(axis: IntervalAxis, column: Column) -> Column:
    """Return the places that are really taken: those of the values rounded to the axis's `q`."""
    if axis.distribution.q is None:
        return column
    return np.array([axis.place(axis.value(place)) for place in column.tolist()])
