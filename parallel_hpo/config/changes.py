"""Where a sweep configuration differs from the one that a sweep was created with. Pure.

Both are compared as W&B understands them: a goal that is left out is "minimize", and a distribution that is
left out is the one that the bounds imply. What a launch takes from its own file whichever sweep it performs,
the program and its command, is not compared; nor is where the sweep is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.config.checks import show
from parallel_hpo.config.distributions import with_distribution
from parallel_hpo.config.sweep_types import SEED, Goal
from parallel_hpo.core.errors import ConfigError

_NOT_COMPARED: Final = ("project", "entity", "program", "command", "controller", SEED)
_OF_METRIC: Final = ("metric.name", "metric.goal")


@dataclass(frozen=True, slots=True)
class ChangedKey:
    """A key with another value than before; None: it is not set."""

    where: str
    """The key's path within the configuration."""
    new: Any
    old: Any

    @property
    def is_of_metric(self) -> bool:
        """Whether it changes what the sweep optimizes."""
        return self.where in _OF_METRIC


def find_changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[ChangedKey, ...]:
    """Return the keys whose values differ, in the order of the new configuration, removed ones last."""
    now, before = dict(_leaves(_completed(new))), dict(_leaves(_completed(old)))
    keys = dict.fromkeys([*now, *before])
    changes = (ChangedKey(key, now.get(key), before.get(key)) for key in keys)
    return tuple(change for change in changes if not _same(change.new, change.old))


def in_words(changes: Sequence[ChangedKey]) -> str:
    """Return the changes as a part of a sentence."""
    return ", ".join(f"{each.where} is {_shown(each.new)} (it was {_shown(each.old)})" for each in changes)


def _completed(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is compared of a configuration, with the defaults that it leaves out."""
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
    """Whether two values are equal, and neither is a boolean where the other is a number."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _shown(value: Any) -> str:
    return "not set" if value is None else show(value)
