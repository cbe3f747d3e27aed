"""Parameters as the axes of a model-based search: what is told and asked, in numbers and back.

An axis has levels, without order (nominal) or with (ordinal), or is the interval
from 0 to 1 of its distribution's quantiles. Numbers among `values` are taken in
their order, for a model then sees that 16 lies between 8 and 32. Pure.
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
from parallel_hpo.server.search.sampling import place_of, value_at
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

_WIDE: Final = 100
"""Even numbers whose highest is so many times the lowest span orders of magnitude."""
_RARE: Final = 1e-6
"""A level of beta further out than that would never be drawn: a finite space is used up without it."""


@dataclass(frozen=True, slots=True)
class LevelAxis:
    """An axis of levels; a place on it is a level's index."""

    path: ParameterPath
    levels: Levels
    ordered: bool

    @property
    def reachable(self) -> Levels:
        """The values that the axis can take."""
        return self.levels

    @property
    def columns(self) -> int:
        """How many numbers a model takes for a place: one, with its logarithm two, or one per level."""
        if self.ordered or self.levels.size == 2:
            return 2 if self.span else 1
        return self.levels.size

    @property
    def span(self) -> float | None:
        """How many times the lowest value the highest is, where that is orders of magnitude."""
        if not isinstance(self.levels, Stepped) or self.levels[0] < 0:
            return None
        last = self.levels.size - 1
        return _wide(1 + last * self.levels.step / max(self.levels[0], self.levels.step))

    def value(self, place: float) -> Any:
        """Return the value at a place, or the nearest one between two levels."""
        return self.levels[min(round(place), self.levels.size - 1)]

    def place(self, value: Any) -> int:
        """Return the place of a value; raises KeyError for what the axis can't take."""
        return self.levels.index(value)

    def settled(self, value: Any) -> Any:
        """Return the value of the axis that is the same to a run; raises KeyError as `place` does."""
        return self.levels[self.levels.index(value)]


@dataclass(frozen=True, slots=True)
class IntervalAxis:
    """A continuous axis; a place on it is a quantile from 0 to 1."""

    path: ParameterPath
    distribution: Continuous
    reachable: Levels | None
    """The values that the axis can take where they are finitely many, by its `q`; None: endless."""

    @property
    def columns(self) -> int:
        """How many numbers a model takes for a place: one, or two with its logarithm."""
        return 2 if self.span else 1

    @property
    def span(self) -> float | None:
        """How many times the lowest value the highest is, where that is orders of magnitude."""
        match self.distribution:
            case Uniform(low, high) if low > 0:
                return _wide(high / low)
        return None

    def value(self, place: float) -> Any:
        """Return the value at a place."""
        return value_at(self.distribution, place)

    def place(self, value: Any) -> float:
        """Return the place of a value; raises KeyError for what is no number."""
        if not is_number(value):
            raise KeyError(value)
        return place_of(self.distribution, value)

    def settled(self, value: Any) -> Any:
        """Return the value of the axis that is the same to a run, a told one out of reach included."""
        if self.reachable is None:
            return self.value(self.place(value))
        lowest, highest = self.reachable[0], self.reachable[self.reachable.size - 1]
        return rounded(min(max(value, lowest), highest), self.distribution.q)


Axis = LevelAxis | IntervalAxis


@dataclass(frozen=True, slots=True)
class Observation:
    """A point, by its places on the axes, and its loss; None: not known yet; infinite: it failed.

    `stopped_at`: the loss is that after so many iterations, at which the run was stopped early.
    """

    index: int
    places: tuple[float, ...]
    loss: float | None
    stopped_at: int | None = None


def axes_of(parameters: Iterable[Parameter]) -> tuple[Axis, ...]:
    """Return the axes of all parameters that can take more than one value."""
    axes = (_axis(parameter) for parameter in parameters)
    return tuple(axis for axis in axes if axis and not (axis.reachable and axis.reachable.size == 1))


def size_of(axes: Iterable[Axis]) -> int | None:
    """Return how many points the space has; None: endlessly many."""
    sizes = [axis.reachable.size if axis.reachable else None for axis in axes]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def places_of(axes: Iterable[Axis], values: Mapping[ParameterPath, Any]) -> tuple[float, ...]:
    """Return the place on each axis; raises KeyError for values that are none of the space's."""
    return tuple(axis.place(values[axis.path]) for axis in axes)


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
            low, high = (value_at(Beta(a, b), place) for place in (_RARE, 1 - _RARE))
            return IntervalAxis(parameter.path, distribution, multiples(low, high, q))
        case _ as distribution:
            return IntervalAxis(parameter.path, distribution, None)


def _wide(span: float) -> float | None:
    return span if _WIDE <= span < math.inf else None


def _choice(path: ParameterPath, values: tuple[Any, ...]) -> LevelAxis:
    """Return a choice's axis; numbers in their order, two values or no numbers without one."""
    ordered = len(values) > 2 and all(is_number(value) for value in values)
    return LevelAxis(path, Listed(sorted(values) if ordered else values), ordered)
