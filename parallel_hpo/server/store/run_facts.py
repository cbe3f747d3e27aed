"""What filters and orders may ask of a run: a column, `config.K.value`, `summary_metrics.K`, `tags.T`. Pure.

They need not have all of a run: `needs_of` says which of its columns and entries do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

from parallel_hpo.metric import MISSING, lookup
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store.records import ASKED_AS, Run


class Facts(Protocol):
    """What filters and orders ask of a run."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its configuration, of which the entries that are asked for will do."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """Its summary, likewise."""

    def column(self, name: str) -> Any:
        """Return a column's value."""


class WholeRun:
    """The facts of a run that is at hand."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Its whole configuration."""
        value: Mapping[str, Any] = json.loads(self._run.config)
        return value

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """Its whole summary."""
        value: Mapping[str, Any] = json.loads(self._run.summary)
        return value

    def column(self, name: str) -> Any:
        """Return a column's value."""
        return getattr(self._run, name)


@dataclass(frozen=True, slots=True)
class Needs:
    """Which columns, and which entries of its JSON, tell of a run what some names stand for."""

    columns: tuple[str, ...]
    config: tuple[str, ...]
    summary: tuple[str, ...]


def needs_of(names: Iterable[str]) -> Needs:
    """Return what must be known of a run to say what these names stand for."""
    columns, config, summary = set[str](), set[str](), set[str]()
    for name in names:
        section, key = section_of(name)
        if key is not None and section == "config":
            config |= {entry for other in _spellings(key) for entry in (other, other.partition(".")[0])}
        elif key is not None and section == "summary_metrics":
            summary |= {key, key.partition(".")[0]}
        else:
            columns |= {ASKED_AS[section]} | ({"name"} if ASKED_AS[section] == "display_name" else set())
    return Needs(*(tuple(sorted(wanted)) for wanted in (columns, config, summary)))


def value_of(facts: Facts, name: str) -> Any:
    """Return what `name` stands for: a column, `config.K.value`, `summary_metrics.K`, or a missing mark."""
    section, key = section_of(name)
    if key is not None and section != "tags":
        return (
            lookup(facts.summary, key) if section == "summary_metrics" else _config_value(facts.config, key)
        )
    column = ASKED_AS[section]
    value = facts.column(column)
    if column == "tags":
        return json.loads(value) if key is None else key in json.loads(value)
    return value or facts.column("name") if column == "display_name" else value


@lru_cache(1024)
def section_of(name: str) -> tuple[str, str | None]:
    """Return a column's name and None, or a section and a key in it; RefusedError for any other name."""
    if name in ASKED_AS:
        return name, None
    section, _, key = name.partition(".")
    if section not in ("summary_metrics", "config", "tags"):
        raise RefusedError(
            f"filter or order {name!r}: one of {', '.join(ASKED_AS)}, config.K, summary_metrics.K"
        )
    return section, key


def _spellings(key: str) -> tuple[str, ...]:
    """Return a configuration's key as it is written with and without `.value`: all values stand under it."""
    head, marker, rest = key.partition(".value")
    return (key, head + rest) if marker else (key,)


def _config_value(config: Mapping[str, Any], key: str) -> Any:
    """Return `K`, `K.value` or `K.value.sub` of a config."""
    plain = {name: entry.get("value") if isinstance(entry, dict) else entry for name, entry in config.items()}
    found = (lookup(plain, spelling) for spelling in _spellings(key))
    return next((value for value in found if value is not MISSING), MISSING)
