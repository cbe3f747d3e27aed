"""Checks a sweep configuration's `early_terminate`: the rule by which its worse runs are stopped early.

Each rule has a frozen class of what it says, and a function that checks and makes it, in one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from parallel_hpo.config.sweep_checks import missing, number, one_of, only_keys, table, whole, wrong

_A_RULE: Final = 'an object such as {"type": "hyperband", "min_iter": 3}'


@dataclass(frozen=True, slots=True)
class HyperbandSettings:
    """Bands are `min_iter` and its multiples by `eta`; or `s` of them, from `max_iter` downwards.

    `strict`: a run is judged by what it had at a band, not by its best until then.
    """

    min_iter: int | None = None
    max_iter: int | None = None
    s: float | None = None
    eta: float = 3
    strict: bool = False


EarlyTerminate = HyperbandSettings
"""What an `early_terminate` says; with a second rule, either of them."""


_HYPERBAND: Final = tuple(field.name for field in fields(HyperbandSettings))


def parse_early_terminate(where: str, value: object) -> EarlyTerminate:
    """Return the rule; raises ConfigError for what is wrong with it."""
    rule = table(where, value, _A_RULE)
    only_keys(where, rule, ("type", *dict.fromkeys(key for kind in _RULES.values() for key in kind.keys)))
    kind = _RULES[one_of(f"{where}.type", rule.get("type"), _RULES)]
    only_keys(where, rule, ("type", *kind.keys))
    return kind.make(where, rule)


def _hyperband(where: str, rule: Mapping[str, Any]) -> HyperbandSettings:
    if "min_iter" not in rule and not {"max_iter", "s"} <= rule.keys():
        raise missing(f"{where}.min_iter", "min_iter, or both max_iter and s")
    said: dict[str, Any] = {key: rule[key] for key in _HYPERBAND if key in rule}
    for key in said.keys() & {"min_iter", "max_iter"}:
        whole(f"{where}.{key}", said[key], least=1)
    for key, above in (("s", 0), ("eta", 1)):
        if key in said:
            number(f"{where}.{key}", said[key], above=above)
    if not isinstance(said.get("strict", False), bool):
        raise wrong(f"{where}.strict", said["strict"], "true or false")
    return HyperbandSettings(**said)


@dataclass(frozen=True, slots=True)
class _Kind:
    make: Callable[[str, Mapping[str, Any]], EarlyTerminate]
    keys: tuple[str, ...]


_RULES: Final[Mapping[str, _Kind]] = {"hyperband": _Kind(_hyperband, _HYPERBAND)}
