"""Runs that never started and that no agent has any more: they wait for the next, or end with their sweep.

    its agent is gone ─▶ give_back ─▶ waiting, while the sweep may give runs
    the sweep is over ─▶ withdraw ──▶ killed; what the sweep's method had chosen is open again

So a sweep that is run again after its end gives out each point of its space that nobody has
started, as a new run. What a client had queued is over: that client may queue it again.
"""

from __future__ import annotations

import json
from typing import Any, Final

from parallel_hpo.server.engines import configurations
from parallel_hpo.server.rules.run_states import RunEvent
from parallel_hpo.server.rules.sweep_states import SweepState
from parallel_hpo.server.services.moves import happened
from parallel_hpo.server.store import outstanding, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run, Sweep
from parallel_hpo.server.store.sweeps import Point

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
    for run in outstanding.given_to_nobody(transaction, sweep.id):
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
    sweeps.put_point(transaction, run.sweep_id, Point(run.sweep_index, run.assigned or "{}"))


def has_a_point(sweep: Sweep, run: Run) -> bool:
    """Say whether a run is the only one of a point of its sweep's space, as that is now."""
    if run.sweep_index is None or run.assigned is None:
        return False
    return configurations.index_of(sweep.config, json.loads(run.assigned)) is not None


def _is_to_come_again(sweep: Sweep, run: Run) -> bool:
    """Say whether the run's place is to be given out again: its own point, or what an agent had had."""
    if run.stop_requested:
        return False
    if configurations.size_of(sweep.config) is not None:
        return has_a_point(sweep, run)
    was_issued = run.sweep_index is not None and run.deliveries > 0
    return was_issued and not configurations.is_scheduled(sweep.config)
