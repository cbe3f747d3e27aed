"""Runs that nobody performs any more: of which nothing is heard, or that never started and no agent has.

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

from parallel_hpo.server.engines import configurations
from parallel_hpo.server.rules.run_states import RunEvent, silence
from parallel_hpo.server.rules.sweep_states import SweepState
from parallel_hpo.server.services.moves import happened
from parallel_hpo.server.store import outstanding, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run, Sweep
from parallel_hpo.server.store.sweeps import Point
from parallel_hpo.server.world import World

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


def reap(world: World, *, up_since: float) -> list[str]:
    """Look for silence once, and return the names of the runs of which nothing was heard."""
    before = world.clock() - world.patience.silent_s
    if before < max(up_since, world.clock_set_at()):
        return []
    with world.database.write() as transaction:
        silent = outstanding.silent(transaction, before)
        for run in silent:
            happened(transaction, run, silence(stop_requested=run.stop_requested))
        stranded = outstanding.never_started_by_silent_strangers(transaction, before)
        for run in stranded:
            give_back(transaction, run)
    return [run.name for run in (*silent, *stranded)]
