"""Checks the `parameters` of a sweep configuration, nested or not, into one flat, sorted tuple."""

from __future__ import annotations

from collections.abc import Iterator

from parallel_hpo.config.sweep_checks import missing, only_keys, table, wrong
from parallel_hpo.config.sweep_distributions import A_PARAMETER, parse_distribution
from parallel_hpo.config.sweep_words import Method, Parameter, Path

_A_LEVEL = "an object with at least one parameter"


def parse_parameters(where: str, value: object, method: Method) -> tuple[Parameter, ...]:
    """Return all parameters, sorted by path; raises ConfigError for the first wrong one."""
    if value is None:
        raise missing(where, _A_LEVEL)
    return tuple(sorted(_walk(where, (), value, method), key=lambda parameter: parameter.path))


def _walk(where: str, path: Path, value: object, method: Method) -> Iterator[Parameter]:
    level = table(where, value, _A_LEVEL)
    if not level:
        raise wrong(where, value, _A_LEVEL)
    for name, raw in level.items():
        here = f"{where}.{name}"
        spec = table(here, raw, A_PARAMETER)
        if "parameters" in spec:
            only_keys(here, spec, ("parameters",))
            yield from _walk(f"{here}.parameters", (*path, name), spec["parameters"], method)
        else:
            yield Parameter((*path, name), parse_distribution(here, spec, method))
