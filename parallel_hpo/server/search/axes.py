"""Parameters as axes of a model-based search: converts values to coordinates and back.

An axis has levels, unordered (nominal) or ordered, or is the interval from 0 to 1 of its distribution's
quantiles. Numeric `values` are ordered, so that a model sees that 16 lies between 8 and 32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.config.sweep_types import (
    Beta,
    Categorical,
    Constant,
    Continuous,
    IntUniform,
    LogUniform,
    Parameter,
    ParameterPath,
    Uniform,
)
from parallel_hpo.server.search.sampling import quantile_of, value_at
from parallel_hpo.server.search.space import (
    EXACT,
    Levels,
    Listed,
    Stepped,
    is_number,
    multiples,
    possible,
    rounded,
)

_MIN_SPAN: Final = 100
"""Minimum ratio of highest to lowest value of a uniform axis that gets its logarithm as a second column."""
_TAIL: Final = 1e-6
"""Tail probability of beta beyond which levels are ignored, as they would never be drawn."""


@dataclass(frozen=True, slots=True)
class LevelAxis:
    """An axis of levels; a coordinate on it is a level's index."""

    path: ParameterPath
    levels: Levels
    ordered: bool
    part: tuple[float, float] = (0.0, 1.0)
    """The part that is searched, as fractions of the axis, or of its logarithm if it has a `span`."""

    @property
    def reachable(self) -> Levels:
        """The values that the axis can take."""
        return self.levels

    @property
    def columns(self) -> int:
        """Number of model columns: one, two with the logarithm, or one per unordered level."""
        if self.ordered or self.levels.size == 2:
            return 2 if self.span else 1
        return self.levels.size

    @property
    def span(self) -> float | None:
        """How many times the lowest value the highest is, where that is orders of magnitude."""
        if not isinstance(self.levels, Stepped) or self.levels[0] < 0:
            return None
        last = self.levels.size - 1
        return _span(1 + last * self.levels.step / max(self.levels[0], self.levels.step))

    def value(self, coordinate: float) -> Any:
        """Return the value of the level nearest to a coordinate."""
        return self.levels[min(round(coordinate), self.levels.size - 1)]

    def coordinate(self, value: Any) -> int:
        """Return the coordinate of a value; raises KeyError for other values than the axis's."""
        return self.levels.index(value)

    def canonical(self, value: Any) -> Any:
        """Return the equal value of the axis, such as 3 for 3.0; raises KeyError if there is none."""
        return self.levels[self.levels.index(value)]


@dataclass(frozen=True, slots=True)
class IntervalAxis:
    """A continuous axis; a coordinate on it is a quantile from 0 to 1."""

    path: ParameterPath
    distribution: Continuous
    reachable: Levels | None
    """The axis's values if `q` makes them finite, else None."""
    part: tuple[float, float] = (0.0, 1.0)
    """The part that is searched, as fractions of the axis, or of its logarithm if it has a `span`."""

    @property
    def columns(self) -> int:
        """Number of model columns: one, or two with the logarithm."""
        return 2 if self.span else 1

    @property
    def span(self) -> float | None:
        """How many times the lowest value the highest is, where that is orders of magnitude."""
        match self.distribution:
            case Uniform(low, high) if low > 0:
                return _span(high / low)
        return None

    def value(self, coordinate: float) -> Any:
        """Return the value at a coordinate."""
        return value_at(self.distribution, coordinate)

    def coordinate(self, value: Any) -> float:
        """Return the coordinate of a value; raises KeyError if it is not a number."""
        if not is_number(value):
            raise KeyError(value)
        return quantile_of(self.distribution, value)

    def canonical(self, value: Any) -> Any:
        """Return the axis's value that equals `value` or, out of range, is nearest to it."""
        if self.reachable is None:
            return self.value(self.coordinate(value))
        lowest, highest = self.reachable[0], self.reachable[self.reachable.size - 1]
        return rounded(min(max(value, lowest), highest), self.distribution.q)


Axis = LevelAxis | IntervalAxis


@dataclass(frozen=True, slots=True)
class Observation:
    """A point by its coordinates on the axes, and its loss: None while running, infinite if it failed.

    `stopped_at`: the iterations after which the run was stopped early; the loss is the last one before.
    """

    index: int
    coordinates: tuple[float, ...]
    loss: float | None
    stopped_at: int | None = None


def axes_of(parameters: Iterable[Parameter]) -> tuple[Axis, ...]:
    """Return the axes of all parameters with more than one value."""
    axes = (_axis(parameter) for parameter in parameters)
    return tuple(axis for axis in axes if axis and not (axis.reachable and axis.reachable.size == 1))


def size_of(axes: Iterable[Axis]) -> int | None:
    """Return the number of points of the space; None if it is infinite."""
    sizes = [axis.reachable.size if axis.reachable else None for axis in axes]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def coordinates_of(axes: Iterable[Axis], values: Mapping[ParameterPath, Any]) -> tuple[float, ...]:
    """Return the coordinate on each axis; raises KeyError for values outside the space."""
    return tuple(axis.coordinate(values[axis.path]) for axis in axes)


def _axis(parameter: Parameter) -> Axis | None:
    match parameter.distribution:
        case Constant():
            return None
        case Categorical() as choices:
            return _choice(parameter.path, possible(choices))
        case IntUniform(low, high):
            return LevelAxis(parameter.path, Stepped(high - low + 1, offset=low), ordered=True)
        case Uniform(low, high, q) if q is not None:
            return LevelAxis(parameter.path, multiples(low, high, q), ordered=True)
        case LogUniform(low, high, q) as distribution if q is not None and high / q < EXACT:
            return IntervalAxis(parameter.path, distribution, multiples(low, high, q))
        case Beta(a, b, q) as distribution if q is not None and 1 / q < EXACT:
            low, high = (value_at(Beta(a, b), coordinate) for coordinate in (_TAIL, 1 - _TAIL))
            return IntervalAxis(parameter.path, distribution, multiples(low, high, q))
        case _ as distribution:
            return IntervalAxis(parameter.path, distribution, None)


def _span(span: float) -> float | None:
    return span if _MIN_SPAN <= span < math.inf else None


def _choice(path: ParameterPath, values: tuple[Any, ...]) -> LevelAxis:
    """Return a choice's axis: ordered for three or more numbers, else unordered."""
    ordered = len(values) > 2 and all(is_number(value) for value in values)
    return LevelAxis(path, Listed(sorted(values) if ordered else values), ordered)
