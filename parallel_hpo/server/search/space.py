"""The search space: nested values by path, equality of values, countable levels, the grid; and trials.

Levels and grid points are computed by index and never listed, so a grid of 100,000 points costs no more than
one of 10. A *trial* is a run as engines know it; the word is Optuna's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from sys import float_info
from typing import Any, Final, Protocol, TypeGuard

from parallel_hpo.config.sweep_types import (
    Categorical,
    Constant,
    Distribution,
    IntUniform,
    Parameter,
    ParameterPath,
    Uniform,
)

Values = Mapping[ParameterPath, Any]
"""The parameters' values by path."""

EXACT: Final = 2**53
"""Largest integer up to which floats are exact; a finer `q` has no effect."""


class Levels(Protocol):
    """The values of a countable parameter, by index from 0."""

    @property
    def size(self) -> int:
        """Number of levels."""

    def __getitem__(self, index: int) -> Any:
        """Return the value at an index from 0 to size - 1."""

    def index(self, value: Any) -> int:
        """Return a value's index; raises KeyError if it is not a level."""


class Listed:
    """Distinct levels in a list."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = tuple(values)
        self._indices = {identity(value): index for index, value in enumerate(self._values)}

    @property
    def size(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Any:
        return self._values[index]

    def index(self, value: Any) -> int:
        return self._indices[identity(value)]


@dataclass(frozen=True, slots=True)
class Stepped:
    """Levels in equal steps: (first + index) * step + offset."""

    size: int
    step: int | float = 1
    first: int = 0
    offset: int | float = 0

    def __getitem__(self, index: int) -> int | float:
        return self.offset + (self.first + index) * self.step

    def index(self, value: Any) -> int:
        if not is_number(value):
            raise KeyError(value)
        coordinate = (value - self.offset) / self.step - self.first
        if not -0.5 <= coordinate <= self.size - 0.5:
            raise KeyError(value)
        return min(round(coordinate), self.size - 1)


def nest(values: Values) -> dict[str, Any]:
    """Return a copy of the values as a run's parameters: `{("a", "b"): 1}` as `{"a": {"b": 1}}`."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        level = nested
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = deepcopy(value)
    return nested


def look_up(parameters: Mapping[str, Any], path: ParameterPath) -> Any:
    """Return the value at a path of a run's parameters; raises KeyError if there is none."""
    value: Any = parameters
    for name in path:
        if not isinstance(value, Mapping):
            raise KeyError(path)
        value = value[name]
    return value


def identity(value: Any) -> str:
    """Return a key that is the same for equal JSON values: 3 equals 3.0, 1 doesn't equal true."""
    return json.dumps(
        int(value) if isinstance(value, float) and value.is_integer() else value, sort_keys=True
    )


def distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the values without duplicates, in order."""
    firsts: dict[str, Any] = {}
    for value in values:
        firsts.setdefault(identity(value), value)
    return tuple(firsts.values())


def possible(choices: Categorical) -> tuple[Any, ...]:
    """Return the distinct values of a categorical parameter that have a probability above 0."""
    odds = choices.probabilities or (1.0,) * len(choices.values)
    return distinct(value for value, chance in zip(choices.values, odds, strict=True) if chance > 0)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether the value is a number, and neither a boolean nor infinite or NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max


def rounded(value: float, q: int | float | None) -> int | float:
    """Round to a multiple of `q` as W&B does: halves to even, an int for an int `q`."""
    if q is None or not abs(value / q) < EXACT:
        return value
    return round(value / q) * q


def multiples(low: float, high: float, q: int | float) -> Stepped:
    """Return the multiples of `q` to which numbers from `low` to `high` are rounded."""
    first = round(low / q)
    return Stepped(round(high / q) - first + 1, step=q, first=first)


def point(levels: Sequence[Levels], index: int) -> list[Any]:
    """Return the `index`-th combination of levels; the last level changes fastest."""
    values: list[Any] = []
    for level in reversed(levels):
        index, coordinate = divmod(index, level.size)
        values.append(level[coordinate])
    return values[::-1]


class TrialState(StrEnum):
    """The state of a trial's value."""

    PENDING = "pending"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: its 0-based index in the sweep, its parameters, its metric's value.

    `stopped_at`: number of metric values after which it was stopped early; None if it ran to its end.
    """

    index: int
    parameters: Mapping[str, Any]
    state: TrialState
    value: float | None = None
    stopped_at: int | None = None


class GridEngine:
    """The grid of parameters, in W&B's order: names sorted, the last one changes fastest.

    Raises ValueError for a parameter that can't be enumerated.
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        ordered = sorted(parameters, key=lambda parameter: parameter.path)
        self._paths = [parameter.path for parameter in ordered]
        self._levels = [_levels(parameter.distribution) for parameter in ordered]
        self.size = math.prod(levels.size for levels in self._levels)
        """Number of points."""

    def tell(self, trial: Trial) -> None:
        """Ignore the trial: the grid doesn't depend on results."""

    def ask(self, index: int) -> dict[str, Any] | None:
        """Return the grid's `index`-th point; None after its end."""
        if index >= self.size:
            return None
        return nest(dict(zip(self._paths, point(self._levels, index), strict=True)))

    def index(self, parameters: Mapping[str, Any]) -> int | None:
        """Return the index of the point with these parameters; None if it is not in the grid."""
        index = 0
        for path, levels in zip(self._paths, self._levels, strict=True):
            try:
                value = look_up(parameters, path)
                level = levels.index(value)
            except KeyError:
                return None
            if identity(levels[level]) != identity(value):
                return None
            index = index * levels.size + level
        return index


def _levels(distribution: Distribution) -> Levels:
    match distribution:
        case Constant(value):
            return Listed((value,))
        case Categorical():
            return Listed(possible(distribution))
        case IntUniform(low, high):
            return Stepped(high - low + 1, offset=low)
        case Uniform(low, high, q) if q is not None:
            # W&B's engine uses numpy's arange, which starts at min and excludes max.
            return Stepped(math.ceil((high - low) / q), step=q, offset=low)
        case _:
            raise ValueError(f"a grid can't enumerate {distribution}")
