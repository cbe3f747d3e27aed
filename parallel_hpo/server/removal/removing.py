"""Runs, sweeps and projects are removed with all that is theirs, run by run: other writers get in between.

To remove a sweep or a project may be cut short at any moment, and done again. Artifacts that a run of no
sweep or of another one uses or logged too, that have a name of their own, or that stand in a portfolio,
stay, unless their project goes. A run by itself is deleted with its lines and files, and if so wished
with the artifacts that it logged.
"""

from __future__ import annotations

from collections.abc import Sequence

from parallel_hpo.server.artifacts import collections, versions
from parallel_hpo.server.artifacts.names import LATEST
from parallel_hpo.server.files import runs as run_files
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.rules.run_states import OPEN
from parallel_hpo.server.services.abandoned import has_a_point, open_its_point
from parallel_hpo.server.store import (
    artifact_collections,
    artifact_members,
    artifacts,
    holdings,
    leftovers,
    pool,
    projects,
    runs,
    sweeps,
)
from parallel_hpo.server.store.artifact_records import Artifact
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.holdings import BesidesSweeps, Holding, Kept
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.world import World


def measure_sweep(world: World, sweep_id: str) -> Holding:
    """Return what a sweep takes up; nothing where there is no such sweep."""
    with world.database.read() as transaction:
        return holdings.of_sweep(transaction, sweep_id)


def kept_sweeps(world: World) -> list[Kept]:
    """Return all sweeps that there are."""
    with world.database.read() as transaction:
        return holdings.sweeps_kept(transaction)


def remove_sweep(world: World, sweep_id: str) -> None:
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


def delete_run(world: World, run_id: int, *, with_artifacts: bool) -> None:
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


def besides_sweeps(world: World, entity: str, project: str) -> BesidesSweeps | None:
    """Return what a project has besides its sweeps; None: there is no such project."""
    with world.database.read() as transaction:
        found = projects.find(transaction, entity, project)
        return None if found is None else holdings.besides_sweeps(transaction, found)


def remove_project(world: World, entity: str, project: str) -> None:
    """Remove a project; no error where there is none."""
    with world.database.read() as transaction:
        found = projects.find(transaction, entity, project)
        if found is None:
            return
        sweep_ids = sweeps.ids_in_project(transaction, found.id)
        run_ids = runs.ids_of_no_sweep(transaction, found.id)
    for sweep_id in sweep_ids:
        remove_sweep(world, sweep_id)
    remove_runs(world, run_ids)
    with world.database.read() as transaction:
        left = artifact_collections.of_project(transaction, found.id)
    for collection in left:
        collections.delete(world, collection.id)
    with world.database.write() as transaction:
        leftovers.drop_empty_project(transaction, found.id)
