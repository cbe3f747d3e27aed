"""Parameters drawn and by quantile: each distribution as W&B documents it, and the engine of method random.

A run's parameters follow from seed and index alone, so any process can draw them,
in any order. The random source comes in by parameter; it is the standard
library's Mersenne Twister, seeded by SHA-512 of a text.

A place between 0 and 1 that is drawn evenly gives a value of a continuous distribution, and a value has
its place; a search among places is a search in which the distribution's own scale (logarithmic,
bell-shaped) is even. Beta's inverse is SciPy's, whose import takes 0.3 s: only those who have a beta pay
for it. The others' are exact in the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from random import Random
from statistics import NormalDist
from typing import Any

from parallel_hpo.config.sweep_types import (
    Beta,
    Categorical,
    Constant,
    Continuous,
    Distribution,
    IntUniform,
    LogNormal,
    LogUniform,
    Normal,
    Parameter,
    ParameterPath,
    Uniform,
)
from parallel_hpo.server.search.space import Trial, nest, rounded

_EDGE = 2.0**-53
"""A bell has no value at 0 and 1: this close to them it is cut, at ±8.2 standard deviations; so is beta."""
_LARGEST_EXPONENT = 700.0
"""exp(±700) is about the last that a float can hold."""


def value_at(distribution: Continuous, place: float) -> int | float:
    """Return the value at a place from 0 to 1, rounded to the distribution's `q`."""
    return rounded(_smooth_value(distribution, place), distribution.q)


def place_of(distribution: Continuous, value: float) -> float:
    """Return the place of a value, the nearest one for a value out of range."""
    return min(max(_smooth_place(distribution, value), 0.0), 1.0)


def _smooth_value(distribution: Continuous, place: float) -> float:
    match distribution:
        case Uniform(low, high):
            return min(max((1 - place) * low + place * high, low), high)
        case LogUniform(low, high):
            exponent = (1 - place) * math.log(low) + place * math.log(high)
            return min(max(math.exp(exponent), low), high)
        case Normal(mu, sigma):
            return NormalDist(mu, sigma).inv_cdf(_inside(place))
        case LogNormal(mu, sigma):
            exponent = NormalDist(mu, sigma).inv_cdf(_inside(place))
            return math.exp(min(max(exponent, -_LARGEST_EXPONENT), _LARGEST_EXPONENT))
        case Beta(a, b):
            from scipy.special import betaincinv

            return float(betaincinv(a, b, _inside(place)))


def _smooth_place(distribution: Continuous, value: float) -> float:
    match distribution:
        case Uniform(low, high):
            return _share(value, low, high)
        case LogUniform(low, high):
            return _share(math.log(max(value, low)), math.log(low), math.log(high))
        case Normal(mu, sigma):
            return NormalDist(mu, sigma).cdf(value)
        case LogNormal(mu, sigma):
            return NormalDist(mu, sigma).cdf(math.log(value)) if value > 0 else 0.0
        case Beta(a, b):
            from scipy.special import betainc

            return float(betainc(a, b, min(max(value, 0.0), 1.0)))


def _share(value: float, low: float, high: float) -> float:
    width = high / 2 - low / 2  # halves, since the difference of two floats may be none
    return (value / 2 - low / 2) / width if width else 0.0


def _inside(place: float) -> float:
    return min(max(place, _EDGE), 1 - _EDGE)


class RandomEngine:
    """Draws each run's parameters anew, and so may repeat itself; never used up."""

    size = None

    def __init__(self, parameters: Iterable[Parameter], *, seed: int) -> None:
        self._parameters = sorted(parameters, key=lambda parameter: parameter.path)
        self._seed = seed

    def tell(self, trial: Trial) -> None:
        """Nothing that becomes of a run changes the draw."""

    def ask(self, index: int) -> dict[str, Any]:
        """Return the draw for the `index`-th run."""
        return nest(draw(self._parameters, stream(self._seed, index)))

    def index(self, parameters: Mapping[str, Any]) -> None:
        """Nothing is drawn at one index only."""


def stream(seed: int, index: int, *, use: str = "draw") -> Random:
    """Return the random source of one run for one use; different ones are independent."""
    return Random(f"{seed}/{index}/{use}")


def draw(parameters: Iterable[Parameter], source: Random) -> dict[ParameterPath, Any]:
    """Return a value for each parameter, drawn in the order given."""
    return {parameter.path: _draw(parameter.distribution, source) for parameter in parameters}


def _draw(distribution: Distribution, source: Random) -> Any:
    match distribution:
        case Constant(value):
            return value
        case Categorical(values, probabilities):
            return source.choices(values, probabilities)[0]
        case IntUniform(low, high):
            return source.randint(low, high)
        case _:
            return value_at(distribution, source.random())
