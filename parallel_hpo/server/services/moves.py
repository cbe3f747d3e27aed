"""Applies what happened to a run: its new state, and what the sweep's search engine must hear of it."""

from __future__ import annotations

from typing import Any

from parallel_hpo import metric
from parallel_hpo.server.engines import configurations
from parallel_hpo.server.rules.run_states import OPEN, SAID_BY_THE_RUN_ITSELF, RunEvent, RunState, move
from parallel_hpo.server.store import agents, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.values import read_object

_VALUED = frozenset({RunState.FINISHED, RunState.KILLED})


def happened(
    transaction: Transaction, run: Run, event: RunEvent, changes: dict[str, Any] | None = None
) -> RunState:
    """Move `run` by `event`, write that with the other `changes` of its row, and return its new state."""
    changes = dict(changes or {})
    state = move(run.state, event)
    if state is not run.state:
        changes["state"] = state
        changes["waiting"] = state is RunState.PREEMPTED and _is_strangers(transaction, run)
    changes |= _news_for_the_engine(transaction, run, state, changes)
    if changes:
        runs.change(transaction, run.id, changes)
    return state


def started_again(run: Run) -> dict[str, Any]:
    """Return what changes of the row of a run that is started: what is known of its last ending is over.

    One that had said its end itself may be started again by anybody: its sweep's agent doesn't owe it.
    """
    if run.state in OPEN:
        return {}
    return {"exitcode": None, "stop_requested": False, "again": run.state in SAID_BY_THE_RUN_ITSELF}


def _news_for_the_engine(
    transaction: Transaction, run: Run, state: RunState, changes: dict[str, Any]
) -> dict[str, Any]:
    if run.sweep_id is None or run.sweep_index is None:
        return {}
    value = None
    if state in _VALUED:
        value = metric_value(transaction, run.sweep_id, changes.get("summary", run.summary))
    if state is run.state and value == run.value:
        return {}
    return {"value": value, "sweep_revision": sweeps.next_revision(transaction, run.sweep_id)}


def metric_value(transaction: Transaction, sweep_id: str, summary: str) -> float | None:
    """Return the sweep's metric as a run's summary has it; None where it is no finite number."""
    sweep = sweeps.find(transaction, sweep_id)
    wanted = None if sweep is None else configurations.metric_of(sweep.config)
    if wanted is None:
        return None
    return metric.find_value(read_object(summary, "summary"), wanted.name, wanted.goal)


def revalue(transaction: Transaction, sweep_id: str) -> None:
    """Take the values of a sweep's ended runs anew, by the metric that it has now."""
    for run in runs.of_sweep(transaction, sweep_id):
        if run.state in _VALUED:
            runs.change(transaction, run.id, {"value": metric_value(transaction, sweep_id, run.summary)})


def _is_strangers(transaction: Transaction, run: Run) -> bool:
    """Say whether a preempted run is ours to hand on: a supervisor runs its workers' runs again itself."""
    agent = None if run.agent_id is None else agents.find(transaction, run.agent_id)
    return agent is not None and not agent.label
