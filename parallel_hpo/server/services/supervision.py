"""Requests of a supervisor beyond W&B's protocol: a sweep's progress, release of runs, the end of a run.

A supervisor knows that a worker's process is dead, so no timeout is needed. Served under /hpo, for the
master key, a sweep's own key and its nodes' keys.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.core.values import find_value
from parallel_hpo.server import engines
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.rules.runs import RunEvent, RunState
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.run_transitions import apply_event, requeue
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import pending_runs, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run, Sweep
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError

ENDINGS: Final[Mapping[str, RunEvent]] = {
    "finished": RunEvent.OWNER_FINISHED,
    "crashed": RunEvent.OWNER_CRASHED,
    "killed": RunEvent.OWNER_KILLED,
    "failed": RunEvent.OWNER_FAILED,
}


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """A sweep's state, and its runs counted by state."""

    state: str
    runs: dict[str, int]


@dataclass(frozen=True, slots=True)
class SweepAt:
    """A sweep's path as a supervisor gives it."""

    entity: str
    project: str
    sweep: str


def progress(app: AppContext, at: SweepAt) -> SweepProgress:
    """Return a sweep's state and counts; RefusedError (404) if it doesn't exist."""
    with app.database.read() as transaction:
        sweep = _sweep(transaction, at)
        counts = sweeps.counts(transaction, sweep.id)
    return SweepProgress(sweep.state, {str(state): counts.get(state, 0) for state in RunState})


def unconfirmed_runs(app: AppContext, at: SweepAt) -> dict[str, str]:
    """Return the states, by name, of runs that haven't reported their end themselves."""
    with app.database.read() as transaction:
        sweep = _sweep(transaction, at)
        states = pending_runs.unconfirmed_runs(transaction, sweep.id)
    return {name: str(state) for name, state in states.items()}


def steps(app: AppContext, at: SweepAt) -> dict[str, dict[str, Any]]:
    """Return how far the runs under way are, by name: the label of the worker, W&B's step, and the metric."""
    with app.database.read() as transaction:
        sweep = _sweep(transaction, at)
        found = pending_runs.summaries_under_way(transaction, sweep.id)
    wanted = engines.metric_of(sweep.config)
    told = {}
    for name, label, text in found:
        summary = json.loads(text)
        step = summary.get("_step")
        if isinstance(step, int):
            value = None if wanted is None else find_value(summary, wanted.name, wanted.goal)
            told[name] = {"label": label, "step": step, "metric": wanted and wanted.name, "value": value}
    return told


def release(app: AppContext, at: SweepAt, label_prefix: str, keep: frozenset[str]) -> list[str]:
    """Requeue the never-started runs of the agents whose label has this prefix, and return the runs' names.

    A prefix matches whole words: `w_1` doesn't match `w_12`. Those agents are gone for good: one that still
    sends heartbeats gets the command to exit. The supervisor itself retries the runs in `keep`.
    """
    if not label_prefix:
        raise RefusedError("label_prefix must not be empty", status=400)
    with app.database.write() as transaction:
        sweep = _sweep(transaction, at)
        issued = dismiss_agents(transaction, sweep.id, label_prefix)
        return requeue_unstarted(transaction, issued, keep)


def dismiss_agents(transaction: Transaction, sweep_id: str, label_prefix: str) -> list[Run]:
    """Mark agents as gone, and return their runs that never started."""
    return pending_runs.never_started(
        transaction, sweeps.mark_agents_gone(transaction, sweep_id, label_prefix)
    )


def requeue_unstarted(transaction: Transaction, issued: Sequence[Run], keep: Collection[str]) -> list[str]:
    """Requeue never-started runs except `keep`, and return their names."""
    for run in issued:
        if run.name in keep:
            apply_event(transaction, run, RunEvent.STARTED)
        else:
            requeue(transaction, run)
    return [run.name for run in issued if run.name not in keep]


def set_state(app: AppContext, at: SweepAt, state: str) -> str:
    """Set a sweep's state by name, as clients do, and return its new state."""
    with app.database.read() as transaction:
        sweep = _sweep(transaction, at)
    return sweep_service.upsert(app, SweepUpsert(id=sweep.id, state=state)).state


def set_name(app: AppContext, at: SweepAt, name: str) -> None:
    """Set the name that pages and clients show of a sweep."""
    with app.database.read() as transaction:
        sweep = _sweep(transaction, at)
    sweep_service.upsert(app, SweepUpsert(id=sweep.id, display_name=name))


def end_run(app: AppContext, at: SweepAt, name: str, state: str) -> str:
    """End a run as its owner reports, unless the run reported its own end; return its new state."""
    event = ENDINGS.get(state)
    if event is None:
        raise RefusedError(f"state {state!r}: one of {', '.join(ENDINGS)}", status=400)
    with app.database.write() as transaction:
        run = runs.at(transaction, RunPath(at.entity, at.project, name))
        if run is None or run.sweep_id != at.sweep:
            raise RefusedError(f"run {name} doesn't exist in sweep {at.sweep}", status=404)
        return apply_event(transaction, run, event)


def _sweep(transaction: Transaction, at: SweepAt) -> Sweep:
    sweep = sweeps.find(transaction, at.sweep)
    if sweep is None or (sweep.entity, sweep.project) != (at.entity, at.project):
        raise RefusedError(f"sweep {at.entity}/{at.project}/{at.sweep} doesn't exist", status=404)
    return sweep
