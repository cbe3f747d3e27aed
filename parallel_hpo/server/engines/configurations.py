"""The sweep configuration as clients send it: JSON or YAML, checked, and what the server reads of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from parallel_hpo.config.checks import EarlyTerminate, HyperbandSettings
from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_types import Method, Metric, SweepConfiguration
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.server.rules.early_stopping import EarlyStopRule, Hyperband
from parallel_hpo.server.search.engine import Engine, make_engine
from parallel_hpo.server.values import RefusedError

_MAX_LENGTH = 2_000_000


def parse(text: str) -> SweepConfiguration:
    """Parse and check a sweep configuration; RefusedError says what is wrong with it."""
    try:
        return parse_sweep_configuration(_load(text), where="sweep configuration", at_server=True)
    except ConfigError as error:
        raise RefusedError(str(error)) from error
    except RecursionError:
        raise RefusedError("the sweep configuration is nested too deeply") from None


@lru_cache(64)
def metric_of(text: str) -> Metric | None:
    """Return the metric that the sweep optimizes, if it has one."""
    return parse(text).metric


@dataclass(frozen=True, slots=True)
class StoppingRules:
    """By what a sweep's runs, and the sweep itself, are ended early; `rule`: None where they aren't."""

    metric: Metric
    rule: EarlyStopRule | None


@lru_cache(64)
def stopping(text: str) -> StoppingRules:
    """Return what ends runs early, of a configuration that has a metric."""
    configuration = parse(text)
    assert configuration.metric is not None
    return StoppingRules(configuration.metric, _rule(configuration.early_terminate))


def _rule(settings: EarlyTerminate | None) -> EarlyStopRule | None:
    match settings:
        case None:
            return None
        case HyperbandSettings():
            return Hyperband.of(settings)


@lru_cache(64)
def program_of(text: str) -> str | None:
    """Return the `program` that a stock agent is to run, or None."""
    program = _load(text).get("program")
    return program if isinstance(program, str) else None


@lru_cache(64)
def is_scheduled(text: str) -> bool:
    """Return whether all runs come from a `wandb sweep-scheduler`."""
    return parse(text).scheduled


def expected_runs(text: str) -> int | None:
    """Return how many runs the sweep can have: its run_cap, or the size of its space; None: no limit."""
    limits = [limit for limit in (parse(text).run_cap, size_of(text)) if limit is not None]
    return min(limits, default=None)


def size_of(text: str) -> int | None:
    """Return how many points there are to give out, each once; None: without an end."""
    engine = _untold_engine(text)
    return None if engine is None else engine.size


def index_of(text: str, parameters: Mapping[str, Any]) -> int | None:
    """Return the index of the point that these parameters are; None where they are no point of their own."""
    engine = _untold_engine(text)
    return None if engine is None else engine.index(parameters)


@lru_cache(64)
def _untold_engine(text: str) -> Engine | None:
    """Return the sweep's engine, for what no run changes; None: a scheduler of the user's own chooses."""
    configuration = parse(text)
    return None if configuration.method is Method.CUSTOM else make_engine(configuration, seed=0)


def _load(text: str) -> dict[str, Any]:
    if len(text) > _MAX_LENGTH:
        raise RefusedError(f"the sweep configuration is longer than {_MAX_LENGTH} characters")
    try:
        value = _read(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RefusedError(f"the sweep configuration is not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise RefusedError(f"the sweep configuration must be a mapping, not {type(value).__name__}")
    return value


def _read(text: str) -> object:
    try:
        return json.loads(text)  # first: to YAML 1.1 JSON's 1e-05 is a word
    except ValueError:
        return yaml.load(text, Loader=_NoAliases)


class _NoAliases(yaml.SafeLoader):
    """A safe loader that refuses aliases, by which a short text can stand for a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)
