"""Points as rows of numbers, for models that compute with many at once: drawn, moved, made columns.

A table of places has a row for each point and a place on each axis, as in `axes`.
Columns are what a model measures distances in: every one goes from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from parallel_hpo.search.axes import Axis, IntervalAxis, LevelAxis

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
