"""Applies what happened to a run: its new state, and what the sweep's search engine must hear of it.

Runs that nobody performs any more: of which nothing is heard, or that never started and no agent has.

    its agent is silent ─▶ reap ──────▶ crashed, where it had started; else it is given back
    its agent is gone ───▶ give_back ─▶ waiting, while the sweep may give runs
    the sweep is over ───▶ withdraw ──▶ killed; what the sweep's method had chosen is open again

So a sweep that is run again after its end gives out each point of its space that nobody has
started, as a new run. What a client had queued is over: that client may queue it again.

The server hears nothing while it is down, so silence is judged only once it has
been up for as long as the silence must last, and its clock has gone on undisturbed for so long.
"""

from __future__ import annotations

import json
from typing import Any, Final

from parallel_hpo.core import values
from parallel_hpo.server import engines
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.rules.runs import OPEN, SAID_BY_THE_RUN_ITSELF, RunEvent, RunState, move, silence
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.server.store import pending_runs, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run, Sweep
from parallel_hpo.server.store.sweeps import Point
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
    wanted = None if sweep is None else engines.metric_of(sweep.config)
    if wanted is None:
        return None
    return values.find_value(read_object(summary, "summary"), wanted.name, wanted.goal)


def revalue(transaction: Transaction, sweep_id: str) -> None:
    """Take the values of a sweep's ended runs anew, by the metric that it has now."""
    for run in runs.of_sweep(transaction, sweep_id):
        if run.state in _VALUED:
            runs.change(transaction, run.id, {"value": metric_value(transaction, sweep_id, run.summary)})


def _is_strangers(transaction: Transaction, run: Run) -> bool:
    """Say whether a preempted run is ours to hand on: a supervisor runs its workers' runs again itself."""
    agent = None if run.agent_id is None else sweeps.find_agent(transaction, run.agent_id)
    return agent is not None and not agent.label


OVER: Final = (SweepState.FINISHED, SweepState.CANCELED)
"""States of a sweep that gives out nothing until it is run again."""


def give_back(transaction: Transaction, run: Run) -> None:
    """Let a never-started run wait for the next agent, unless its sweep is over or a user has stopped it."""
    sweep = None if run.sweep_id is None else sweeps.find(transaction, run.sweep_id)
    if sweep is not None and (run.stop_requested or sweep.state in OVER):
        end(transaction, sweep, run)
    else:
        runs.put_back(transaction, run)


def withdraw(transaction: Transaction, sweep: Sweep) -> None:
    """End a sweep's runs that nobody has, as the sweep is over."""
    for run in pending_runs.given_to_nobody(transaction, sweep.id):
        end(transaction, sweep, run)


def end(transaction: Transaction, sweep: Sweep, run: Run) -> None:
    """End a never-started run: its sweep is over, or a user has stopped it, who doesn't want it any more."""
    changes: dict[str, Any] = {}
    if _is_to_come_again(sweep, run):
        open_its_point(transaction, run)
        changes = {"sweep_index": None}
    happened(transaction, run, RunEvent.OWNER_SAYS_KILLED, changes)


def open_its_point(transaction: Transaction, run: Run) -> None:
    """Let the place that a run has in its sweep's space be given to another run."""
    assert run.sweep_id is not None
    assert run.sweep_index is not None
    sweeps.add_open_point(transaction, run.sweep_id, Point(run.sweep_index, run.assigned or "{}"))


def has_a_point(sweep: Sweep, run: Run) -> bool:
    """Say whether a run is the only one of a point of its sweep's space, as that is now."""
    if run.sweep_index is None or run.assigned is None:
        return False
    return engines.index_of(sweep.config, json.loads(run.assigned)) is not None


def _is_to_come_again(sweep: Sweep, run: Run) -> bool:
    """Say whether the run's place is to be given out again: its own point, or what an agent had had."""
    if run.stop_requested:
        return False
    if engines.size_of(sweep.config) is not None:
        return has_a_point(sweep, run)
    was_issued = run.sweep_index is not None and run.deliveries > 0
    return was_issued and not engines.is_scheduled(sweep.config)


def reap(world: AppContext, *, up_since: float) -> list[str]:
    """Look for silence once, and return the names of the runs of which nothing was heard."""
    before = world.clock() - world.patience.silent_s
    if before < max(up_since, world.clock_set_at()):
        return []
    with world.database.write() as transaction:
        silent = pending_runs.silent(transaction, before)
        for run in silent:
            happened(transaction, run, silence(stop_requested=run.stop_requested))
        stranded = pending_runs.never_started_by_silent_strangers(transaction, before)
        for run in stranded:
            give_back(transaction, run)
    return [run.name for run in (*silent, *stranded)]
