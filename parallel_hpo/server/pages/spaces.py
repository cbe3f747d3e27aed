"""What is known of a sweep's parameters from its configuration, as pages draw their axes."""

from __future__ import annotations

import math
from typing import Any

from parallel_hpo.config.sweep_words import (
    Beta,
    Categorical,
    Constant,
    Distribution,
    IntUniform,
    LogNormal,
    LogUniform,
    Parameter,
    Uniform,
)

_SPREAD: float = 3.0
"""So many standard deviations of a normal distribution an axis shows."""


def axis(parameter: Parameter) -> dict[str, Any]:
    """Return a parameter's name, kind, bounds (None: none are known) and whether its axis is logarithmic."""
    distribution = parameter.distribution
    low, high = _bounds(distribution)
    return {
        "name": ".".join(parameter.path),
        "kind": _kind(distribution),
        "log": isinstance(distribution, LogUniform | LogNormal),
        "varied": not isinstance(distribution, Constant) and _is_varied(distribution),
        "low": low,
        "high": high,
        "values": _values(distribution),
    }


def _is_varied(distribution: Distribution) -> bool:
    return not isinstance(distribution, Categorical) or len(distribution.values) > 1


def _kind(distribution: Distribution) -> str:
    values = _values(distribution)
    if values is None:
        whole = isinstance(distribution, IntUniform) or isinstance(getattr(distribution, "q", None), int)
        return "integer" if whole else "number"
    if any(isinstance(value, list | dict) for value in values):
        return "list"
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return "integer"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "number"
    return "category"


def _values(distribution: Distribution) -> list[Any] | None:
    if isinstance(distribution, Constant):
        return [distribution.value]
    return list(distribution.values) if isinstance(distribution, Categorical) else None


def _bounds(distribution: Distribution) -> tuple[float | None, float | None]:
    match distribution:
        case IntUniform(min=low, max=high) | Uniform(min=low, max=high) | LogUniform(min=low, max=high):
            return low, high
        case Beta():
            return 0.0, 1.0
        case LogNormal(mu=mu, sigma=sigma):
            return math.exp(mu - _SPREAD * sigma), math.exp(mu + _SPREAD * sigma)
        case Constant() | Categorical():
            return None, None
    return distribution.mu - _SPREAD * distribution.sigma, distribution.mu + _SPREAD * distribution.sigma
