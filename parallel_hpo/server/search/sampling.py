"""W&B's distributions: random draws, quantiles and their inverse; and the engine of method random.

A run's parameters depend only on seed and index, so any process can draw them in any order. The random source
is the standard library's Mersenne Twister, seeded by SHA-512 of a text.

Models search among quantiles, where each distribution's own scale (logarithmic, bell-shaped) is uniform. Only
beta needs SciPy, whose import takes 0.3 s; the standard library computes the others exactly.
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

_MARGIN = 2.0**-53
"""Distance from quantiles 0 and 1 at which normal (±8.2 standard deviations) and beta are cut off."""
_LARGEST_EXPONENT = 700.0
"""Largest exponent of exp() within a float's range."""


def value_at(distribution: Continuous, quantile: float) -> int | float:
    """Return the value at a quantile from 0 to 1, rounded to the distribution's `q`."""
    return rounded(_smooth_value(distribution, quantile), distribution.q)


def quantile_of(distribution: Continuous, value: float) -> float:
    """Return the quantile of a value, or the nearest one if it is out of range."""
    return min(max(_smooth_quantile(distribution, value), 0.0), 1.0)


def _smooth_value(distribution: Continuous, quantile: float) -> float:
    match distribution:
        case Uniform(low, high):
            return min(max((1 - quantile) * low + quantile * high, low), high)
        case LogUniform(low, high):
            exponent = (1 - quantile) * math.log(low) + quantile * math.log(high)
            return min(max(math.exp(exponent), low), high)
        case Normal(mu, sigma):
            return NormalDist(mu, sigma).inv_cdf(_inside(quantile))
        case LogNormal(mu, sigma):
            exponent = NormalDist(mu, sigma).inv_cdf(_inside(quantile))
            return math.exp(min(max(exponent, -_LARGEST_EXPONENT), _LARGEST_EXPONENT))
        case Beta(a, b):
            from scipy.special import betaincinv

            return float(betaincinv(a, b, _inside(quantile)))


def _smooth_quantile(distribution: Continuous, value: float) -> float:
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
    width = high / 2 - low / 2  # halves, because the difference of two floats may overflow
    return (value / 2 - low / 2) / width if width else 0.0


def _inside(quantile: float) -> float:
    return min(max(quantile, _MARGIN), 1 - _MARGIN)


class RandomEngine:
    """Draws each run's parameters independently, without end; points may repeat."""

    size = None

    def __init__(self, parameters: Iterable[Parameter], *, seed: int) -> None:
        self._parameters = sorted(parameters, key=lambda parameter: parameter.path)
        self._seed = seed

    def tell(self, trial: Trial) -> None:
        """Ignore the trial: draws don't depend on results."""

    def ask(self, index: int) -> dict[str, Any]:
        """Return the draw for the `index`-th run."""
        return nest(draw(self._parameters, stream(self._seed, index)))

    def index(self, parameters: Mapping[str, Any]) -> None:
        """Return None: no point belongs to one index only."""


def stream(seed: int, index: int, *, use: str = "draw") -> Random:
    """Return the random source of a run for one use, independent of all others."""
    return Random(f"{seed}/{index}/{use}")


def draw(parameters: Iterable[Parameter], source: Random) -> dict[ParameterPath, Any]:
    """Draw a value for each parameter, in the given order."""
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
