"""What a supervisor may ask beyond W&B's protocol: how far a sweep is, release, and the end of a run.

It knows what no server can see, that a worker's process is dead, and so need not
wait for a time-out. Mounted under /hpo, for the master key, and for a sweep's own and its nodes'.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from parallel_hpo.server import engines
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.rules.runs import RunEvent, RunState
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.run_transitions import give_back, happened
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import pending_runs, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.pending_runs import PendingRun
from parallel_hpo.server.store.records import Run, Sweep
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError

ENDINGS: Final[Mapping[str, RunEvent]] = {
    "finished": RunEvent.OWNER_SAYS_FINISHED,
    "crashed": RunEvent.OWNER_SAYS_CRASHED,
    "killed": RunEvent.OWNER_SAYS_KILLED,
    "failed": RunEvent.OWNER_SAYS_FAILED,
}


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """A sweep's state, and its runs counted by state."""

    state: str
    runs: dict[str, int]


@dataclass(frozen=True, slots=True)
class SweepAt:
    """Where a supervisor says that a sweep is."""

    entity: str
    project: str
    sweep: str


def progress(world: AppContext, at: SweepAt) -> SweepProgress:
    """Return how far a sweep is; RefusedError (404) where it doesn't exist."""
    with world.database.read() as transaction:
        sweep = _sweep(transaction, at)
        counts = sweeps.counts(transaction, sweep.id)
    return SweepProgress(sweep.state, {str(state): counts.get(state, 0) for state in RunState})


def without_own_word(world: AppContext, at: SweepAt) -> dict[str, str]:
    """Return by name the state of each run that has not said its end itself: its owner may know better."""
    with world.database.read() as transaction:
        sweep = _sweep(transaction, at)
        states = pending_runs.without_own_word(transaction, sweep.id)
    return {name: str(state) for name, state in states.items()}


def awaited(world: AppContext, at: SweepAt) -> list[PendingRun]:
    """Return the runs for whose sake agents without a run wait where there is no other; none while paused."""
    with world.database.read() as transaction:
        sweep = _sweep(transaction, at)
        gives = sweep.state is SweepState.RUNNING and not engines.is_scheduled(sweep.config)
        return pending_runs.unsettled_runs(transaction, sweep.id) if gives else []


def release(world: AppContext, at: SweepAt, label_prefix: str, keep: frozenset[str]) -> list[str]:
    """Give back the never-started runs of the agents whose label begins so, and return the runs' names.

    A prefix counts whole words: `w_1` is none of `w_12`. Those agents are gone for good: what still
    speaks in their name is told to exit. The runs named in `keep` are the supervisor's to run again:
    nobody else gets them.
    """
    if not label_prefix:
        raise RefusedError("label_prefix must not be empty", status=400)
    with world.database.write() as transaction:
        sweep = _sweep(transaction, at)
        issued = dismiss(transaction, sweep.id, label_prefix)
        return settle(transaction, issued, keep)


def dismiss(transaction: Transaction, sweep_id: str, label_prefix: str) -> list[Run]:
    """Send those agents away for good, and return the runs that they were given and never started."""
    return pending_runs.never_started(
        transaction, sweeps.mark_agents_gone(transaction, sweep_id, label_prefix)
    )


def settle(transaction: Transaction, issued: Sequence[Run], keep: Collection[str]) -> list[str]:
    """Give runs back that were never started, all but `keep`, and return their names."""
    for run in issued:
        if run.name in keep:
            happened(transaction, run, RunEvent.STARTED)
        else:
            give_back(transaction, run)
    return [run.name for run in issued if run.name not in keep]


def set_state(world: AppContext, at: SweepAt, state: str) -> str:
    """Set a sweep's state by its name, as clients do, and return its state now."""
    with world.database.read() as transaction:
        sweep = _sweep(transaction, at)
    return sweep_service.upsert(world, SweepUpsert(id=sweep.id, state=state)).state


def end_run(world: AppContext, at: SweepAt, name: str, state: str) -> str:
    """End a run as its owner says, unless it has told its own end, and return its state now."""
    event = ENDINGS.get(state)
    if event is None:
        raise RefusedError(f"state {state!r}: one of {', '.join(ENDINGS)}", status=400)
    with world.database.write() as transaction:
        run = runs.at(transaction, RunPath(at.entity, at.project, name))
        if run is None or run.sweep_id != at.sweep:
            raise RefusedError(f"run {name} doesn't exist in sweep {at.sweep}", status=404)
        return happened(transaction, run, event)


def _sweep(transaction: Transaction, at: SweepAt) -> Sweep:
    sweep = sweeps.find(transaction, at.sweep)
    if sweep is None or (sweep.entity, sweep.project) != (at.entity, at.project):
        raise RefusedError(f"sweep {at.entity}/{at.project}/{at.sweep} doesn't exist", status=404)
    return sweep
