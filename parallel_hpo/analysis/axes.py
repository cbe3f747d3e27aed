"""The axis of each parameter as Optuna wants it: a distribution that holds all values that were observed.

What W&B allows and Optuna doesn't (lists, NaN, values of several types) becomes a choice among texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.analysis.table import as_text

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

LOG_FROM: Final = 100.0
"""Values that span less than this factor are drawn on a linear axis, however they are spread."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter's distribution, and how a value is placed on it."""

    distribution: BaseDistribution
    place: Callable[[Any], Any]


def axes_of(points: Iterable[Mapping[str, Any]]) -> dict[str, Axis]:
    """Return the axis of each parameter of these points, by its name, in the order of their coming."""
    values: dict[str, list[Any]] = {}
    for point in points:
        for name, value in point.items():
            values.setdefault(name, []).append(value)
    return {name: _axis(observed) for name, observed in values.items()}


def varying(points: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the parameters that differ from point to point; having none differs too."""
    points = list(points)
    texts: dict[str, set[str]] = {}
    for point in points:
        for name, value in point.items():
            texts.setdefault(name, set()).add(as_text(value))
    held = {name: sum(name in point for point in points) for name in texts}
    return [name for name, seen in texts.items() if len(seen) > 1 or held[name] < len(points)]


def is_logarithmic(values: Sequence[float]) -> bool:
    """Say whether numbers are spread evenly over factors, not over differences: by where their middle is.

    For axes of what no distribution is known of.
    """
    low, high = min(values), max(values)
    if low <= 0 or high / low < LOG_FROM:
        return False
    return _askew([math.log(value) for value in values]) <= _askew(values)


def _askew(values: Sequence[float]) -> float:
    """Return how far their middle is from the middle between their ends: 0 to 0.5 of the whole."""
    low, high = min(values), max(values)
    return abs((median(values) - low) / (high - low) - 0.5)


def _axis(values: list[Any]) -> Axis:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    kinds = {type(value) for value in values}
    if kinds == {int} and all(map(_is_drawable, values)):
        return Axis(IntDistribution(min(values), max(values), log=is_logarithmic(values)), int)
    if kinds <= {int, float} and all(map(_is_drawable, values)):
        return Axis(FloatDistribution(min(values), max(values), log=is_logarithmic(values)), float)
    place = _as_it_is if kinds == {bool} else as_text
    return Axis(CategoricalDistribution(list(dict.fromkeys(map(place, values)))), place)


def _is_drawable(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False  # a whole number may have any length


def _as_it_is(value: Any) -> Any:
    return value
