"""A run is deleted, with its lines and files, and if so wished the artifacts that it logged."""

from __future__ import annotations

from parallel_hpo.server.artifacts import versions
from parallel_hpo.server.files import runs as run_files
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.rules.run_states import OPEN
from parallel_hpo.server.services.unstarted import has_a_point, open_its_point
from parallel_hpo.server.store import artifacts, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.world import World


def delete(world: World, run_id: int, *, with_artifacts: bool) -> None:
    """Delete a run, unless it is deleted already; RefusedError for one that an agent of a sweep still has."""
    with world.database.write() as transaction:
        run = runs.find(transaction, run_id)
        if run is None and runs.is_there(transaction, run_id):
            raise RefusedError("this run doesn't exist, or is another sweep's", status=404)
        if run is None:
            return
        if run.sweep_id is not None and run.state in OPEN:
            raise RefusedError(f"run {run.name} of sweep {run.sweep_id} is still on: stop it first")
        logged = artifacts.logged_by_run(transaction, run_id)
        artifacts.forget_run(transaction, run_id)
        _open_its_point(transaction, run)
        runs.delete(transaction, run_id)
    run_files.discard(world, run_id)
    for artifact in logged if with_artifacts else ():
        versions.delete(world, artifact.id, with_aliases=True)


def _open_its_point(transaction: Transaction, run: Run) -> None:
    """Let a run's own point be issued again, as W&B does: there one is done while a run of it exists."""
    sweep = None if run.sweep_id is None else sweeps.find(transaction, run.sweep_id)
    if sweep is not None and has_a_point(sweep, run):
        open_its_point(transaction, run)
