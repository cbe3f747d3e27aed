"""A sweep is removed with all that its runs told and sent, run by run, so that other writers get in between.

It may be cut short at any moment, and done again. Artifacts that a run of no sweep or of another one
uses or logged too, that have a name of their own, or that stand in a portfolio, stay.
"""

from __future__ import annotations

from collections.abc import Iterable

from parallel_hpo.server import artifact_service, run_files
from parallel_hpo.server.artifact_names import LATEST
from parallel_hpo.server.store import artifact_aliases, artifact_members, artifacts, holdings, runs, sweeps
from parallel_hpo.server.store.artifact_records import Artifact
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.holdings import Holding
from parallel_hpo.server.world import World


def measure(world: World, sweep_id: str) -> Holding:
    """Return what a sweep takes up; nothing where there is no such sweep."""
    with world.database.read() as transaction:
        return holdings.of_sweep(transaction, sweep_id)


def remove(world: World, sweep_id: str) -> None:
    """Remove a sweep; no error where there is no such sweep. The database keeps the room for others."""
    with world.database.read() as transaction:
        run_ids = [run.id for run in runs.of_sweep(transaction, sweep_id)]
    logged = [artifact for run_id in run_ids for artifact in _remove_run(world, run_id)]
    _remove_unused(world, logged)
    with world.database.write() as transaction:
        sweeps.delete(transaction, sweep_id)


def _remove_run(world: World, run_id: int) -> list[Artifact]:
    """Remove a run with its lines and files, and return the artifacts that it logged."""
    with world.database.write() as transaction:
        logged = artifacts.logged_by_run(transaction, run_id)
        artifacts.forget_run(transaction, run_id)
        runs.delete(transaction, run_id)
    run_files.discard(world, run_id)
    return logged


def _remove_unused(world: World, logged: Iterable[Artifact]) -> None:
    for artifact in logged:
        with world.database.read() as transaction:
            stays = _is_wanted(transaction, artifact)
        if not stays:
            artifact_service.delete(world, artifact.id, with_aliases=False)


def _is_wanted(transaction: Transaction, artifact: Artifact) -> bool:
    named = set(artifact_aliases.of_artifact(transaction, artifact.id)) - {LATEST}
    _, *links = artifact_members.of_artifact(transaction, artifact)
    run_ids = artifacts.users(transaction, artifact.id)
    return bool(named or links or run_ids) or artifacts.is_logged_again(transaction, artifact.id)
