"""The shape of a search space: values by path nested and back, equal values, countable levels.

Pure. The levels of a parameter are the values that it can take, by index and never
listed: a grid of 100,000 points costs what one of 10 does.

What an engine is told of a run: the parameters it was given, and what came of them.

*Trial* is Optuna's word, and is used where a search engine speaks; everywhere else
it is a run.

Every combination of the parameters' values, once: the n-th is computed, never listed.

W&B's order: names sorted, the last one changing fastest.
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
"""A value for each parameter, by path."""

EXACT: Final = 2**53
"""Up to here floats tell whole numbers apart; a finer `q` has no effect."""


class Levels(Protocol):
    """The values of a countable parameter, by index from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> Any:
        """Return the value at an index from 0 to size - 1."""

    def index(self, value: Any) -> int:
        """Return a value's index; raises KeyError for what is none of the levels."""


class Listed:
    """Levels that are listed one by one, each once."""

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
    """Levels at equal steps: (first + index) * step + offset."""

    size: int
    step: int | float = 1
    first: int = 0
    offset: int | float = 0

    def __getitem__(self, index: int) -> int | float:
        return self.offset + (self.first + index) * self.step

    def index(self, value: Any) -> int:
        if not is_number(value):
            raise KeyError(value)
        place = (value - self.offset) / self.step - self.first
        if not -0.5 <= place <= self.size - 0.5:
            raise KeyError(value)
        return min(round(place), self.size - 1)


def nest(values: Values) -> dict[str, Any]:
    """Return the values, copied, as a run's parameters: `{("a", "b"): 1}` as `{"a": {"b": 1}}`."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        level = nested
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = deepcopy(value)
    return nested


def look_up(parameters: Mapping[str, Any], path: ParameterPath) -> Any:
    """Return the value at a path of a run's parameters; raises KeyError where there is none."""
    value: Any = parameters
    for name in path:
        if not isinstance(value, Mapping):
            raise KeyError(path)
        value = value[name]
    return value


def identity(value: Any) -> str:
    """Return a text that is the same for equal JSON values; 3 and 3.0 are equal, 1 and true are not."""
    return json.dumps(
        int(value) if isinstance(value, float) and value.is_integer() else value, sort_keys=True
    )


def distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the values without repeats, in their order."""
    firsts: dict[str, Any] = {}
    for value in values:
        firsts.setdefault(identity(value), value)
    return tuple(firsts.values())


def possible(choices: Categorical) -> tuple[Any, ...]:
    """Return the distinct values of a categorical parameter that have a chance."""
    odds = choices.probabilities or (1.0,) * len(choices.values)
    return distinct(value for value, chance in zip(choices.values, odds, strict=True) if chance > 0)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether the value is a number that can be calculated with; true is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max


def rounded(value: float, q: int | float | None) -> int | float:
    """Return the multiple of `q` nearest to the value, as W&B does: halves to even, ints for an int `q`."""
    if q is None or not abs(value / q) < EXACT:
        return value
    return round(value / q) * q


def multiples(low: float, high: float, q: int | float) -> Stepped:
    """Return the multiples of `q` that numbers from `low` to `high` are rounded to."""
    first = round(low / q)
    return Stepped(round(high / q) - first + 1, step=q, first=first)


def point(levels: Sequence[Levels], index: int) -> list[Any]:
    """Return the `index`-th combination of levels; the last ones change fastest."""
    values: list[Any] = []
    for level in reversed(levels):
        index, place = divmod(index, level.size)
        values.append(level[place])
    return values[::-1]


class TrialState(StrEnum):
    """What is known of a trial's value."""

    PENDING = "pending"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: its 0-based index in the sweep, the parameters it was issued with, its metric's value.

    `stopped_at`: after how many values of the metric it was stopped early; None: it went to its end.
    """

    index: int
    parameters: Mapping[str, Any]
    state: TrialState
    value: float | None = None
    stopped_at: int | None = None


class GridEngine:
    """The grid over some parameters; raises ValueError for one that can't be enumerated."""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        ordered = sorted(parameters, key=lambda parameter: parameter.path)
        self._paths = [parameter.path for parameter in ordered]
        self._levels = [_levels(parameter.distribution) for parameter in ordered]
        self.size = math.prod(levels.size for levels in self._levels)
        """How many points there are, each once."""

    def tell(self, trial: Trial) -> None:
        """Nothing that becomes of a run changes the grid."""

    def ask(self, index: int) -> dict[str, Any] | None:
        """Return the grid's `index`-th point; None past its end."""
        if index >= self.size:
            return None
        return nest(dict(zip(self._paths, point(self._levels, index), strict=True)))

    def index(self, parameters: Mapping[str, Any]) -> int | None:
        """Return the index of the point that these parameters are; None where they are none of the grid's."""
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
            # As W&B's engine enumerates it: numpy's arange, which starts at min and leaves max out.
            return Stepped(math.ceil((high - low) / q), step=q, offset=low)
        case _:
            raise ValueError(f"a grid can't enumerate {distribution}")
