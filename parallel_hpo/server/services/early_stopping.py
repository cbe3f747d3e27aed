"""Early stopping as metrics arrive: a rule may stop the run, a reached target the sweep."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from parallel_hpo.config.sweep_types import Goal, Metric
from parallel_hpo.core.values import find_value, statistic, values_so_far
from parallel_hpo.server import engines
from parallel_hpo.server.rules import sweeps as sweep_states
from parallel_hpo.server.rules.early_stopping import Advance, BandResult, EarlyStopRule, LossHistory, advance
from parallel_hpo.server.rules.sweeps import SweepEvent
from parallel_hpo.server.services.run_transitions import withdraw
from parallel_hpo.server.store import lines
from parallel_hpo.server.store import sweeps as sweeps_store
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.records import Run, Sweep
from parallel_hpo.server.values import read_object


def reset_losses(transaction: Transaction, run: Run) -> dict[str, Any]:
    """Delete a run's losses at bands as a new attempt begins, and return the changes to its row."""
    if run.metric_rows is not None:
        sweeps_store.delete_band_losses(transaction, run.id)
    return {"metric_rows": None, "best_loss": None, "metric_value": None}


def recompute_losses(transaction: Transaction, run: Run) -> dict[str, Any]:
    """Recompute a run's losses from its stored history, and return the changes to its row.

    The run is not stopped for its past: the next row decides.
    """
    changes = reset_losses(transaction, run)
    if run.sweep_id is not None:
        rows = map(json.loads, lines.texts(transaction, run.id, Stream.HISTORY))
        changes |= apply_metrics(transaction, replace(run, **changes), rows, None)
        changes.pop("stop_requested", None)
    return changes


def apply_metrics(
    transaction: Transaction, run: Run, rows: Iterable[Mapping[str, Any]], summary: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Apply a run's new history rows and summary, and return the changes to its row.

    If the metric reaches its target, the sweep is finished here; active runs go on.
    """
    sweep = None if run.sweep_id is None else sweeps_store.find(transaction, run.sweep_id)
    if sweep is None or sweep.metric_name is None:
        return {}
    plan = engines.stopping(sweep.config)
    if plan.rule is None and plan.metric.target is None:
        return {}
    values = _values(run, rows, summary, plan.metric)
    last = None if summary is None else find_value(summary, plan.metric.name, plan.metric.goal)
    if any(_reaches(plan.metric, value) for value in (*values, *(() if last is None else (last,)))):
        _finish(transaction, sweep)
    if not values:
        return {}
    changes: dict[str, Any] = {
        "metric_rows": (run.metric_rows or 0) + len(values),
        "metric_value": values[-1],
    }
    if plan.rule is not None:
        changes |= _advance(transaction, run, plan.rule, plan.metric, values)
    return changes


def _values(
    run: Run, rows: Iterable[Mapping[str, Any]], summary: Mapping[str, Any] | None, metric: Metric
) -> list[float]:
    """Return the metric's value after each new row, as the run's summary would have it then."""
    logged = (find_value(row, metric.name, metric.goal) for row in rows)
    new = [value for value in logged if value is not None]
    if not new:
        return []
    stored = read_object(run.summary, "summary")
    counted = statistic(stored if summary is None else summary, metric.name, metric.goal)
    before = run.metric_value
    if before is None:  # a run that began under an older server
        before = find_value(stored, metric.name, metric.goal)
    return list(values_so_far(new, counted, metric.goal, rows=run.metric_rows or 0, value=before))


def _advance(
    transaction: Transaction, run: Run, rule: EarlyStopRule, metric: Metric, values: list[float]
) -> dict[str, Any]:
    assert run.sweep_id is not None
    sign = -1 if metric.goal is Goal.MAXIMIZE else 1
    losses = [sign * value for value in values]
    advanced = advance(LossHistory(run.metric_rows or 0, run.best_loss), losses, rule)
    for at in advanced.reached:
        sweeps_store.set_band_loss(transaction, run.sweep_id, at.band, run.id, at.loss)
    changes: dict[str, Any] = {"best_loss": advanced.history.best}
    # A run without an agent has ended already: it is uploaded from where it was executed.
    if run.agent_id is not None and _must_stop(transaction, run, rule, advanced):
        changes["stop_requested"] = True
    return changes


def _must_stop(transaction: Transaction, run: Run, rule: EarlyStopRule, advanced: Advance) -> bool:
    """Return whether a run must stop, by each band that it has just reached and by its last one.

    The last one counts again since other runs may have reached it. One chunk may pass several bands:
    each of them counts.
    """
    assert run.sweep_id is not None
    judged = {at.band: at for at in advanced.reached}
    last, best = rule.last_band(advanced.history.iterations), advanced.history.best
    if last is not None and best is not None and last not in judged:
        own = sweeps_store.losses_at_band(transaction, run.sweep_id, last).get(run.id, best)
        judged[last] = BandResult(last, own, best)
    return any(
        rule.must_stop(at, list(sweeps_store.losses_at_band(transaction, run.sweep_id, band).values()))
        for band, at in judged.items()
    )


def _reaches(metric: Metric, value: float) -> bool:
    if metric.target is None:
        return False
    return value >= metric.target if metric.goal is Goal.MAXIMIZE else value <= metric.target


def _finish(transaction: Transaction, sweep: Sweep) -> None:
    state = sweep_states.move(sweep.state, SweepEvent.TARGET_REACHED)
    if state is not sweep.state:
        withdraw(transaction, sweep)
        sweeps_store.change(transaction, sweep.id, {"state": state})
