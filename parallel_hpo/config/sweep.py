"""Checks a W&B sweep configuration before anything starts, and compares it with an earlier one. Pure.

The rules are those of the JSON Schema in W&B's `sweeps` package (0.3.0), and of its engine where that is
stricter. Keys that we don't interpret pass unchecked. Callers send the raw mapping to `wandb.sweep`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.config.checks import (
    EarlyTerminate,
    missing,
    number,
    one_of,
    only_keys,
    parse_early_terminate,
    show,
    table,
    text,
    whole,
    wrong,
)
from parallel_hpo.config.distributions import (
    A_PARAMETER,
    bounds_problem,
    parse_distribution,
    with_distribution,
)
from parallel_hpo.config.sweep_types import (
    SEED,
    Goal,
    Method,
    Metric,
    Parameter,
    ParameterPath,
    SweepConfiguration,
)
from parallel_hpo.core.errors import ConfigError

_A_LEVEL = "an object with at least one parameter"

_INTERPRETED: Final = ("method", "metric", "parameters", "early_terminate", "run_cap")
_PASSED_THROUGH: Final = (
    *("name", "description", "program", "command", "project", "entity", "controller", "apiVersion", "kind"),
    *("job", "image_uri", "metrics", "scheduler"),
)
_A_METRIC: Final = 'an object such as {"name": "loss", "goal": "minimize"}'
_IMPUTE: Final = ("latest", "best", "worst")


def parse_sweep_configuration(
    config: Mapping[str, Any], *, where: str, at_server: bool = False
) -> SweepConfiguration:
    """Return the checked configuration; `where` is its key path.

    `at_server`: also allow what only clients send, the method custom (runs come from the user's own
    scheduler) and the seed of a launch. Raises ConfigError with the key path, the value, and what is allowed.
    """
    try:
        return _parse(config, where, at_server)
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply; allowed: some hundred levels") from None


def _parse(config: object, where: str, at_server: bool) -> SweepConfiguration:
    keys = table(where, config, "a W&B sweep configuration, with method and parameters")
    only_keys(where, keys, _INTERPRETED + _PASSED_THROUGH + ((SEED,) if at_server else ()))
    method = _method(f"{where}.method", keys, at_server)
    metric = _metric(f"{where}.metric", keys)
    if metric is None and method.needs_metric:
        raise missing(f"{where}.metric", f"for method {method}, {_A_METRIC}")
    return SweepConfiguration(
        method=method,
        metric=metric,
        early_terminate=_early_terminate(f"{where}.early_terminate", keys, metric),
        parameters=_parameters(f"{where}.parameters", keys, method),
        run_cap=whole(f"{where}.run_cap", keys["run_cap"], least=1) if "run_cap" in keys else None,
        seed=whole(f"{where}.{SEED}", keys[SEED], least=0) if SEED in keys else None,
        scheduled=method is Method.CUSTOM or keys.get("scheduler") is not None,
    )


def _parameters(where: str, config: Mapping[str, Any], method: Method) -> tuple[Parameter, ...]:
    if method is Method.CUSTOM and "parameters" not in config:
        return ()  # the scheduler chooses them
    return parse_parameters(where, config.get("parameters"), method)


def _method(where: str, config: Mapping[str, Any], custom: bool) -> Method:
    allowed = [method for method in Method if custom or method is not Method.CUSTOM]
    if "method" not in config:
        raise missing(where, f"one of {', '.join(allowed)}")
    if config["method"] == "custom" and not custom:
        raise ConfigError(
            f'{where} is "custom": such a sweep\'s runs come from a `wandb sweep-scheduler` of your own,'
            f" which is not run here; allowed: {', '.join(allowed)}"
        )
    return Method(one_of(where, config["method"], allowed))


def _metric(where: str, config: Mapping[str, Any]) -> Metric | None:
    if "metric" not in config:
        return None
    metric = table(where, config["metric"], _A_METRIC)
    only_keys(where, metric, ("name", "goal", "target", "impute", "impute_while_running"))
    if "name" not in metric:
        raise missing(f"{where}.name", "the name of a metric that the runs log")
    for key, allowed in (("impute", _IMPUTE), ("impute_while_running", (*_IMPUTE, "false"))):
        if key in metric:
            one_of(f"{where}.{key}", metric[key], allowed)
    return Metric(
        name=text(f"{where}.name", metric["name"]),
        goal=Goal(one_of(f"{where}.goal", metric["goal"], Goal)) if "goal" in metric else Goal.MINIMIZE,
        target=number(f"{where}.target", metric["target"]) if "target" in metric else None,
    )


def _early_terminate(where: str, config: Mapping[str, Any], metric: Metric | None) -> EarlyTerminate | None:
    if "early_terminate" not in config:
        return None
    if metric is None:
        raise ConfigError(f"{where} needs a metric to judge runs by; add `metric` beside it")
    return parse_early_terminate(where, config["early_terminate"])


def parse_parameters(where: str, value: object, method: Method) -> tuple[Parameter, ...]:
    """Return all parameters, sorted by path; raises ConfigError for the first wrong one."""
    if value is None:
        raise missing(where, _A_LEVEL)
    return tuple(sorted(_walk(where, (), value, method), key=lambda parameter: parameter.path))


def _walk(where: str, path: ParameterPath, value: object, method: Method) -> Iterator[Parameter]:
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


def find_suspicious_bounds(config: Mapping[str, Any], *, where: str) -> Iterator[str]:
    """Yield a sentence for each parameter whose bounds are valid but probably a mistake."""
    for name, spec in (config.get("parameters") or {}).items():
        here = f"{where}.parameters.{name}"
        if "parameters" in spec:
            yield from find_suspicious_bounds(spec, where=here)
        elif problem := bounds_problem(here, spec):
            yield problem


_NOT_COMPARED: Final = ("project", "entity", "program", "command", "controller", SEED)
_OF_METRIC: Final = ("metric.name", "metric.goal")


@dataclass(frozen=True, slots=True)
class ChangedKey:
    """A key whose value has changed; None: not set."""

    where: str
    """The key's path within the configuration."""
    new: Any
    old: Any

    @property
    def is_of_metric(self) -> bool:
        """Return whether it changes what the sweep optimizes."""
        return self.where in _OF_METRIC


def find_changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[ChangedKey, ...]:
    """Return the keys whose values differ, in the order of the new configuration, removed ones last.

    Defaults are filled in as W&B does: the goal is "minimize", the distribution follows from the bounds.
    Project and entity, and the program and its command, which each launch has of its own, are not compared.
    """
    now, before = dict(_leaves(_completed(new))), dict(_leaves(_completed(old)))
    keys = dict.fromkeys([*now, *before])
    changes = (ChangedKey(key, now.get(key), before.get(key)) for key in keys)
    return tuple(change for change in changes if not _same(change.new, change.old))


def in_words(changes: Sequence[ChangedKey]) -> str:
    """Return the changes as part of a sentence."""
    return ", ".join(f"{each.where} is {_shown(each.new)} (it was {_shown(each.old)})" for each in changes)


def _completed(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compared keys of a configuration, with defaults filled in."""
    whole = {key: value for key, value in configuration.items() if key not in _NOT_COMPARED}
    if isinstance(metric := whole.get("metric"), Mapping):
        whole["metric"] = {**metric, "goal": metric.get("goal", str(Goal.MINIMIZE))}
    if isinstance(parameters := whole.get("parameters"), Mapping):
        whole["parameters"] = {name: _with_distributions(spec) for name, spec in parameters.items()}
    return whole


def _with_distributions(spec: Any) -> Any:
    if not isinstance(spec, Mapping):
        return spec
    if isinstance(nested := spec.get("parameters"), Mapping):
        return {**spec, "parameters": {name: _with_distributions(each) for name, each in nested.items()}}
    with suppress(ConfigError):  # another client may have created the sweep, with keys unknown here
        return with_distribution("", spec)
    return spec


def _leaves(value: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{where}{key}.")
        else:
            yield f"{where}{key}", list(inner) if isinstance(inner, tuple) else inner


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; a boolean never equals a number."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _shown(value: Any) -> str:
    return "not set" if value is None else show(value)
