"""A sweep is removed with all that its runs told and sent, run by run, so that other writers get in between.

It may be cut short at any moment, and done again. Artifacts that a run of no sweep or of another one
uses or logged too, that have a name of their own, or that stand in a portfolio, stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from parallel_hpo.server.artifacts import versions
from parallel_hpo.server.artifacts.names import LATEST
from parallel_hpo.server.files import runs as run_files
from parallel_hpo.server.store import (
    artifact_collections,
    artifact_members,
    artifacts,
    holdings,
    leftovers,
    pool,
    runs,
    sweeps,
)
from parallel_hpo.server.store.artifact_records import Artifact
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.holdings import Holding, Kept
from parallel_hpo.server.world import World


def measure(world: World, sweep_id: str) -> Holding:
    """Return what a sweep takes up; nothing where there is no such sweep."""
    with world.database.read() as transaction:
        return holdings.of_sweep(transaction, sweep_id)


def kept(world: World) -> list[Kept]:
    """Return all sweeps that there are."""
    with world.database.read() as transaction:
        return holdings.sweeps_kept(transaction)


def remove(world: World, sweep_id: str) -> None:
    """Remove a sweep, and its project where nothing else is in it; no error where there is no such sweep.

    The database keeps the room for others.
    """
    with world.database.read() as transaction:
        sweep = sweeps.find(transaction, sweep_id)
        run_ids = [run.id for run in runs.of_sweep(transaction, sweep_id)]
        has_pool = pool.find(transaction, sweep_id) is not None
    if has_pool:  # also that of a sweep that is on another server
        with world.database.write() as transaction:
            pool.delete_pool(transaction, sweep_id)
        world.notices.forget(sweep_id)
    if sweep is None:
        return
    remove_runs(world, run_ids)
    with world.database.write() as transaction:
        sweeps.delete(transaction, sweep_id)
        leftovers.drop_empty_collections(transaction, sweep.project_id)
        leftovers.drop_empty_project(transaction, sweep.project_id)


def remove_runs(world: World, run_ids: Sequence[int]) -> None:
    """Remove runs with their lines, files and artifacts; the runs go last, by which all else is found."""
    for run_id in run_ids:
        with world.database.write() as transaction:
            artifacts.forget_uses(transaction, run_id)
    for run_id in run_ids:
        with world.database.read() as transaction:
            logged = artifacts.logged_by_run(transaction, run_id)
        for artifact in logged:
            _remove_unless_wanted(world, artifact)
        with world.database.write() as transaction:
            for artifact_id in leftovers.unfinished_of_run(transaction, run_id):
                artifacts.remove(transaction, artifact_id)
            artifacts.forget_run(transaction, run_id)
            runs.delete(transaction, run_id)
        run_files.discard(world, run_id)


def _remove_unless_wanted(world: World, artifact: Artifact) -> None:
    with world.database.read() as transaction:
        wanted = _is_wanted(transaction, artifact)
    if not wanted:
        versions.delete(world, artifact.id, with_aliases=False)


def _is_wanted(transaction: Transaction, artifact: Artifact) -> bool:
    named = set(artifact_collections.aliases_of_artifact(transaction, artifact.id)) - {LATEST}
    _, *links = artifact_members.of_artifact(transaction, artifact)
    run_ids = artifacts.users(transaction, artifact.id)
    return bool(named or links or run_ids) or artifacts.is_logged_again(transaction, artifact.id)
