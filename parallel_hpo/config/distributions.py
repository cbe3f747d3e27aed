"""Checks the distribution of one parameter of a sweep configuration; called by `config/sweep.py`.

One table lists each distribution's parser and its required and optional keys. A missing `distribution` is
inferred as W&B does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.config.checks import json_native, missing, number, one_of, only_keys, whole, wrong
from parallel_hpo.config.sweep_types import (
    Beta,
    Categorical,
    Constant,
    Distribution,
    IntUniform,
    LogNormal,
    LogUniform,
    Method,
    Normal,
    Uniform,
)
from parallel_hpo.core.errors import ConfigError

Spec = Mapping[str, Any]

_RANGE: Final = ("min", "max")
A_PARAMETER: Final = 'an object such as {"value": 3}, {"values": [3, 5]} or {"min": 0.1, "max": 1.0}'
_LARGEST_EXPONENT: Final = 700
"""Largest exponent of e: exp(700) is close to the largest float."""
_LEAST_EXPONENT: Final = 0.01
"""Lowest plausible exponent above 0 as a lower bound: exp(0.01) is 1.01."""
_LEAST_HIGHEST: Final = 1.0
"""Lowest plausible exponent as an upper bound: two bounds below it span less than 1 to e."""
_MOST_EXPONENT: Final = 50.0
"""Highest plausible exponent: exp(50) is 5e21."""
_LARGEST_INT: Final = 2**53
_DEFAULT_Q: Final = 1.0
_SUM_TOLERANCE: Final = 1e-5
"""Tolerance of the sum of probabilities, that of numpy's isclose in W&B: three times 0.33333 passes."""


def parse_distribution(where: str, spec: Spec, method: Method) -> Distribution:
    """Return one parameter's distribution; raises ConfigError if it is wrong."""
    name = _name(where, spec)
    kind = _KINDS[name]
    _check_keys(where, spec, name, kind)
    distribution = kind.make(where, spec)
    if method.enumerates and not kind.in_grid:
        listed = ", ".join(name for name, kind in _KINDS.items() if kind.in_grid)
        raise ConfigError(
            f"{where} has the distribution {name}, which a {method} can't enumerate; allowed with method"
            f' {method}: {listed} (give "values", or choose method random or bayes)'
        )
    return distribution


def _check_keys(where: str, spec: Spec, name: str, kind: _Kind) -> None:
    only_keys(where, spec, _ALL_KEYS)
    keys = (*kind.required, *kind.optional)
    for key in spec:
        if key not in ("distribution", *keys):
            raise ConfigError(f"{where}.{key} doesn't go with distribution {name}, which takes {_and(keys)}")
    for key in kind.required:
        if key not in spec:
            raise missing(f"{where}.{key}", f"{_and(kind.required)}, for distribution {name}")


def _and(words: Iterable[str]) -> str:
    *firsts, last = words
    return f"{', '.join(firsts)} and {last}" if firsts else last


def _name(where: str, spec: Spec) -> str:
    """Return the given name of the distribution, or W&B's default for the given keys."""
    if "distribution" in spec:
        return _named(f"{where}.distribution", spec["distribution"])
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "min" in spec and "max" in spec:
        return "int_uniform" if _is_int(spec["min"]) and _is_int(spec["max"]) else "uniform"
    only_keys(where, spec, _ALL_KEYS)
    if "min" in spec or "max" in spec:
        raise missing(f"{where}.{'max' if 'min' in spec else 'min'}", "both min and max, for a range")
    if spec:
        raise missing(f"{where}.distribution", f"beside {_and(spec)}, one of {', '.join(_KINDS)}")
    raise wrong(where, spec, A_PARAMETER)


def _named(where: str, name: object) -> str:
    """Return a distribution's name; the error suggests log_uniform_values for other libraries' names."""
    letters = "".join(filter(str.isalpha, name)).lower() if isinstance(name, str) else ""
    if letters in _LIKELY_MEANT and name not in _KINDS:
        raise wrong(where, name, f"{', '.join(_KINDS)} (did you mean {_LIKELY_MEANT[letters]!r}?)")
    return one_of(where, name, _KINDS)


def bounds_problem(where: str, spec: Spec) -> str | None:
    """Return why a valid parameter's bounds are probably a mistake; None if they are plausible.

    The bounds of log_uniform are exponents of e. Exponents very close to 0, or so large that the values
    have 22 digits, were probably meant as values.
    """
    meant = _BOUNDS_AS_VALUES.get(str(spec.get("distribution", "")))
    if meant is None:
        return None
    low, high = float(spec["min"]), float(spec["max"])
    if low <= 0 or (low > _LEAST_EXPONENT and _LEAST_HIGHEST < high < _MOST_EXPONENT):
        return None
    sign = -1 if spec["distribution"] == "inv_log_uniform" else 1
    drawn = sorted(math.exp(sign * bound) for bound in (low, high))
    return (
        f"{where} has the distribution {spec['distribution']}, whose min and max are exponents of e:"
        f" min {spec['min']} and max {spec['max']} give values from {drawn[0]:.4g} to {drawn[1]:.4g}."
        f" For values from {spec['min']} to {spec['max']} use the distribution {meant}"
    )


def with_distribution(where: str, spec: Spec) -> dict[str, Any]:
    """Return a parameter with its distribution's name; raises ConfigError if it can't be inferred."""
    return {**spec, "distribution": _name(where, spec)}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- one function per family of distributions --------------------------------------


def _constant(where: str, spec: Spec) -> Constant:
    json_native(f"{where}.value", spec["value"])
    return Constant(spec["value"])


def _categorical(where: str, spec: Spec) -> Categorical:
    values = spec["values"]
    if not isinstance(values, list) or not values:
        raise wrong(f"{where}.values", values, "a list of at least one value")
    json_native(f"{where}.values", values)
    return Categorical(tuple(values))


def _categorical_w_probabilities(where: str, spec: Spec) -> Categorical:
    values = _categorical(where, spec).values
    given, here = spec["probabilities"], f"{where}.probabilities"
    if not isinstance(given, list) or len(given) != len(values):
        raise wrong(here, given, f"a list of {len(values)} numbers, one for each of `values`")
    probabilities = tuple(float(number(f"{here}[{index}]", item)) for index, item in enumerate(given))
    if min(probabilities) < 0:
        raise wrong(here, given, "numbers of 0 or more")
    if abs(sum(probabilities) - 1) > _SUM_TOLERANCE:
        raise wrong(here, given, f"numbers whose sum is 1 (it is {sum(probabilities):g})")
    return Categorical(values, probabilities)


def _int_uniform(where: str, spec: Spec) -> IntUniform:
    low, high = (_bounded_whole(f"{where}.{key}", spec[key]) for key in _RANGE)
    _check_order(where, spec)
    return IntUniform(low, high)


def _uniform(where: str, spec: Spec) -> Uniform:
    low, high = number(f"{where}.min", spec["min"]), number(f"{where}.max", spec["max"])
    _check_order(where, spec)
    q, least = _q(where, spec), max(abs(low), abs(high)) / _LARGEST_INT
    if q is not None and q < least:
        raise wrong(
            f"{where}.q", q, f"a step of at least {least:g}, since floats have no finer resolution here"
        )
    return Uniform(low, high, q)


def _log_uniform_values(where: str, spec: Spec) -> LogUniform:
    low = number(f"{where}.min", spec["min"], above=0)
    high = number(f"{where}.max", spec["max"], above=0)
    _check_order(where, spec)
    return LogUniform(float(low), float(high), _q(where, spec))


def _log_uniform(where: str, spec: Spec) -> LogUniform:
    low, high = (_exponent(f"{where}.{key}", spec[key]) for key in _RANGE)
    _check_order(where, spec)
    return LogUniform(math.exp(low), math.exp(high), _q(where, spec))


def _inv_log_uniform(where: str, spec: Spec) -> LogUniform:
    low, high = (_exponent(f"{where}.{key}", spec[key]) for key in _RANGE)
    _check_order(where, spec)
    return LogUniform(math.exp(-high), math.exp(-low))


def _normal(where: str, spec: Spec) -> Normal:
    mu, sigma = _mu_and_sigma(where, spec)
    return Normal(mu, sigma, _q(where, spec))


def _log_normal(where: str, spec: Spec) -> LogNormal:
    mu, sigma = _mu_and_sigma(where, spec)
    return LogNormal(_exponent(f"{where}.mu", mu), sigma, _q(where, spec))


def _beta(where: str, spec: Spec) -> Beta:
    a, b = (float(number(f"{where}.{key}", spec.get(key, 1.0), above=0)) for key in ("a", "b"))
    return Beta(a, b, _q(where, spec))


def _mu_and_sigma(where: str, spec: Spec) -> tuple[float, float]:
    mu = float(number(f"{where}.mu", spec.get("mu", 0.0)))
    return mu, float(number(f"{where}.sigma", spec.get("sigma", 1.0), above=0))


def _bounded_whole(where: str, value: object) -> int:
    bound = whole(where, value)
    if abs(bound) > _LARGEST_INT:
        raise wrong(where, value, "a whole number between ±2^53, which JSON carries exactly")
    return bound


def _exponent(where: str, value: object) -> float:
    exponent = float(number(where, value))
    if abs(exponent) > _LARGEST_EXPONENT:
        raise wrong(
            where,
            value,
            f"an exponent of e between ±{_LARGEST_EXPONENT} (for bounds that are values: log_uniform_values)",
        )
    return exponent


def _q(where: str, spec: Spec) -> int | float | None:
    if not str(spec.get("distribution", "")).startswith("q_"):
        return None
    return number(f"{where}.q", spec.get("q", _DEFAULT_Q), above=0)


def _check_order(where: str, spec: Spec) -> None:
    if spec["min"] >= spec["max"]:
        raise wrong(
            f"{where}.min",
            spec["min"],
            f'less than max, which is {spec["max"]} (a fixed number: {{"value": …}})',
        )


@dataclass(frozen=True, slots=True)
class _Kind:
    make: Callable[[str, Spec], Distribution]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    in_grid: bool = False


_BELL: Final = ("mu", "sigma")
_KINDS: Final[Mapping[str, _Kind]] = {
    "constant": _Kind(_constant, ("value",), in_grid=True),
    "categorical": _Kind(_categorical, ("values",), in_grid=True),
    "categorical_w_probabilities": _Kind(
        _categorical_w_probabilities, ("values", "probabilities"), in_grid=True
    ),
    "int_uniform": _Kind(_int_uniform, _RANGE, in_grid=True),
    "uniform": _Kind(_uniform, _RANGE),
    "q_uniform": _Kind(_uniform, _RANGE, ("q",), in_grid=True),
    "log_uniform": _Kind(_log_uniform, _RANGE),
    "log_uniform_values": _Kind(_log_uniform_values, _RANGE),
    "q_log_uniform": _Kind(_log_uniform, _RANGE, ("q",)),
    "q_log_uniform_values": _Kind(_log_uniform_values, _RANGE, ("q",)),
    "inv_log_uniform": _Kind(_inv_log_uniform, _RANGE),
    "inv_log_uniform_values": _Kind(_log_uniform_values, _RANGE),
    "normal": _Kind(_normal, (), _BELL),
    "q_normal": _Kind(_normal, (), (*_BELL, "q")),
    "log_normal": _Kind(_log_normal, (), _BELL),
    "q_log_normal": _Kind(_log_normal, (), (*_BELL, "q")),
    "beta": _Kind(_beta, (), ("a", "b")),
    "q_beta": _Kind(_beta, (), ("a", "b", "q")),
}
_BOUNDS_AS_VALUES: Final = {
    name: f"{name}_values" for name in ("log_uniform", "q_log_uniform", "inv_log_uniform")
}
"""Distributions whose bounds are exponents, each with the one that takes the same bounds as values."""
_LIKELY_MEANT: Final = {
    meant.replace("_values", "").replace("_", ""): meant for meant in _BOUNDS_AS_VALUES.values()
}
"""Names in other libraries, lower case without underscores: Ray's and Hyperopt's loguniform takes values."""
_ALL_KEYS: Final = (
    "distribution",
    "value",
    "values",
    "probabilities",
    "parameters",
    *_RANGE,
    *_BELL,
    "a",
    "b",
    "q",
)
