"""A project is removed with all of its sweeps, runs and artifacts, whoever uses them.

It may be cut short at any moment, and done again.
"""

from __future__ import annotations

from parallel_hpo.server.artifacts import collections
from parallel_hpo.server.removal import sweeps as sweep_removal
from parallel_hpo.server.store import artifact_collections, holdings, leftovers, projects, runs, sweeps
from parallel_hpo.server.store.holdings import BesidesSweeps
from parallel_hpo.server.world import World


def rest(world: World, entity: str, project: str) -> BesidesSweeps | None:
    """Return what a project has besides its sweeps; None: there is no such project."""
    with world.database.read() as transaction:
        found = projects.find(transaction, entity, project)
        return None if found is None else holdings.besides_sweeps(transaction, found)


def remove(world: World, entity: str, project: str) -> None:
    """Remove a project; no error where there is none."""
    with world.database.read() as transaction:
        found = projects.find(transaction, entity, project)
        if found is None:
            return
        sweep_ids = sweeps.ids_in_project(transaction, found.id)
        run_ids = runs.ids_of_no_sweep(transaction, found.id)
    for sweep_id in sweep_ids:
        sweep_removal.remove(world, sweep_id)
    sweep_removal.remove_runs(world, run_ids)
    with world.database.read() as transaction:
        left = artifact_collections.of_project(transaction, found.id)
    for collection in left:
        collections.delete(world, collection.id)
    with world.database.write() as transaction:
        leftovers.drop_empty_project(transaction, found.id)
