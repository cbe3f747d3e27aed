"""Continuous distributions by quantile: a value for a place between 0 and 1, and the place of a value.

A place drawn evenly gives a value of the distribution; a search among places is a
search in which the distribution's own scale (logarithmic, bell-shaped) is even.
Beta's inverse is SciPy's, whose import takes 0.3 s: only those who have a beta pay
for it. The others' are exact in the standard library.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from parallel_hpo.config.sweep_words import Beta, Continuous, LogNormal, LogUniform, Normal, Uniform
from parallel_hpo.search.space import rounded

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
