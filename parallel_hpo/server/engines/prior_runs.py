"""Prior runs of a sweep: runs of its project that it begins with (`wandb.sweep(prior_runs=…)`).

As in W&B's engine, bayes learns from those with a value, and a grid has no need of a point that one of
them has, however it ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from parallel_hpo.config.sweep_words import SweepConfiguration
from parallel_hpo.metric import find_value
from parallel_hpo.server.store import runs
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.filters import matches, read_filters
from parallel_hpo.server.store.records import Run, Sweep
from parallel_hpo.server.values import read_object


@dataclass(frozen=True, slots=True)
class Prior:
    """What a prior run tells: its parameters, and its metric's value if it has one."""

    parameters: dict[str, Any]
    value: float | None


def prior_runs(transaction: Transaction, sweep: Sweep) -> Iterator[Run]:
    """Yield the prior runs themselves, whoever asks."""
    if not sweep.prior_runs_filters:
        return
    filters = read_filters(sweep.prior_runs_filters)
    for run in runs.of_other_sweeps(transaction, sweep.project_id, sweep.id):
        if matches(run, filters):
            yield run


def prior_trials(
    transaction: Transaction, sweep: Sweep, configuration: SweepConfiguration
) -> Iterator[Prior]:
    """Yield what the prior runs tell; those without the sweep's parameters tell nothing."""
    names = {parameter.path[0] for parameter in configuration.parameters}
    for run in prior_runs(transaction, sweep):
        parameters = _parameters(run, names)
        if parameters.keys() == names:
            yield Prior(parameters, _value(run, configuration))


def _value(run: Run, configuration: SweepConfiguration) -> float | None:
    metric = configuration.metric
    if metric is None:
        return None
    return find_value(read_object(run.summary, "summary"), metric.name, metric.goal)


def _parameters(run: Run, names: set[str]) -> dict[str, Any]:
    """Return those of a run's configuration values that are the sweep's parameters."""
    config = json.loads(run.config)
    entries = {name: config[name] for name in names if name in config}
    return {
        name: entry["value"]
        for name, entry in entries.items()
        if isinstance(entry, dict) and "value" in entry
    }
