"""Apply events to runs: the new state, the revision for the search engine, timeouts and requeues.

    its agent timed out ─▶ apply_timeouts ▶ crashed if it had started, else requeued
    its agent is gone ───▶ requeue ───────▶ waiting, while the sweep issues runs
    the sweep has ended ─▶ withdraw ──────▶ killed; the point that the sweep's method had chosen is open again

A sweep that is resumed after its end issues each point that was not started again, as a new run.
Runs that a client had queued are not: the client may queue them again.

The server receives nothing while it is down. So a timeout counts only after the server has been up,
and its clock undisturbed, for the whole time.
"""

from __future__ import annotations

import json
from typing import Any, Final

from parallel_hpo.core import values
from parallel_hpo.server import engines
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.rules.runs import OPEN, REPORTED_BY_RUN, RunEvent, RunState, move, silence
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.server.store import pending_runs, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run, Sweep
from parallel_hpo.server.store.sweeps import Point
from parallel_hpo.server.values import read_object

_VALUED = frozenset({RunState.FINISHED, RunState.KILLED})


def apply_event(
    transaction: Transaction, run: Run, event: RunEvent, changes: dict[str, Any] | None = None
) -> RunState:
    """Move `run` by `event`, write its new state with `changes` of its row, and return the state."""
    changes = dict(changes or {})
    state = move(run.state, event)
    if state is not run.state:
        changes["state"] = state
        changes["waiting"] = state is RunState.PREEMPTED and _is_requeued_by_server(transaction, run)
    changes |= _news_for_the_engine(transaction, run, state, changes)
    if changes:
        runs.change(transaction, run.id, changes)
    return state


def restart_changes(run: Run) -> dict[str, Any]:
    """Return the changes to the row of a run that starts again: its last end is cleared.

    If the run itself had reported its end, anybody may have started it again, so that its sweep's agent
    is not expected to end it.
    """
    if run.state in OPEN:
        return {}
    return {"exitcode": None, "stop_requested": False, "again": run.state in REPORTED_BY_RUN}


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
    """Return the sweep's metric in a run's summary; None if it is no finite number."""
    sweep = sweeps.find(transaction, sweep_id)
    wanted = None if sweep is None else engines.metric_of(sweep.config)
    if wanted is None:
        return None
    return values.find_value(read_object(summary, "summary"), wanted.name, wanted.goal)


def recompute_values(transaction: Transaction, sweep_id: str) -> None:
    """Recompute the values of a sweep's ended runs after its metric has changed."""
    for run in runs.of_sweep(transaction, sweep_id):
        if run.state in _VALUED:
            runs.change(transaction, run.id, {"value": metric_value(transaction, sweep_id, run.summary)})


def _is_requeued_by_server(transaction: Transaction, run: Run) -> bool:
    """Return whether the server requeues a preempted run: a supervisor retries its workers' runs itself."""
    agent = None if run.agent_id is None else sweeps.find_agent(transaction, run.agent_id)
    return agent is not None and not agent.label


ENDED: Final = (SweepState.FINISHED, SweepState.CANCELED)
"""States of a sweep that issues nothing until it is resumed."""


def requeue(transaction: Transaction, run: Run) -> None:
    """Requeue a never-started run, or end it if its sweep has ended or a user has stopped it."""
    sweep = None if run.sweep_id is None else sweeps.find(transaction, run.sweep_id)
    if sweep is not None and (run.stop_requested or sweep.state in ENDED):
        end_unstarted(transaction, sweep, run)
    else:
        runs.put_back(transaction, run)


def withdraw(transaction: Transaction, sweep: Sweep) -> None:
    """End a sweep's runs that no agent has, since the sweep has ended."""
    for run in pending_runs.unassigned(transaction, sweep.id):
        end_unstarted(transaction, sweep, run)


def end_unstarted(transaction: Transaction, sweep: Sweep, run: Run) -> None:
    """End a never-started run: its sweep has ended, or a user has stopped it."""
    changes: dict[str, Any] = {}
    if _is_point_reissued(sweep, run):
        reopen_point(transaction, run)
        changes = {"sweep_index": None}
    apply_event(transaction, run, RunEvent.OWNER_KILLED, changes)


def reopen_point(transaction: Transaction, run: Run) -> None:
    """Open a run's point in its sweep's search space for another run."""
    assert run.sweep_id is not None
    assert run.sweep_index is not None
    sweeps.add_open_point(transaction, run.sweep_id, Point(run.sweep_index, run.assigned or "{}"))


def is_unique_point(sweep: Sweep, run: Run) -> bool:
    """Return whether a run's parameters are a point of its sweep's present, countable space."""
    if run.sweep_index is None or run.assigned is None:
        return False
    return engines.index_of(sweep.config, json.loads(run.assigned)) is not None


def _is_point_reissued(sweep: Sweep, run: Run) -> bool:
    """Return whether the run's point will be issued again."""
    if run.stop_requested:
        return False
    if engines.size_of(sweep.config) is not None:
        return is_unique_point(sweep, run)
    was_issued = run.sweep_index is not None and run.deliveries > 0
    return was_issued and not engines.is_scheduled(sweep.config)


def apply_timeouts(app: AppContext, *, up_since: float) -> list[str]:
    """Apply the timeouts of silent runs and agents once, and return the affected runs' names."""
    before = app.clock() - app.timeouts.silent_s
    if before < max(up_since, app.clock_set_at()):
        return []
    with app.database.write() as transaction:
        silent = pending_runs.silent(transaction, before)
        for run in silent:
            apply_event(transaction, run, silence(stop_requested=run.stop_requested))
        stranded = pending_runs.never_started_by_silent_agents(transaction, before)
        for run in stranded:
            requeue(transaction, run)
    return [run.name for run in (*silent, *stranded)]
