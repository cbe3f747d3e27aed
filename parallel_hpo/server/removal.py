"""Runs, sweeps and projects are removed with all that is theirs, run by run: other writers get in between.

To remove a sweep or a project may be cut short at any moment, and done again. Artifacts that a run of no
sweep or of another one uses or logged too, that have a name of their own, or that stand in a portfolio,
stay, unless their project goes. A run by itself is deleted with its lines and files, and if so wished
with the artifacts that it logged.

Takes back what was begun and never finished, and what belongs to nothing any more; runs now and then.

    artifacts never committed ─▶ their manifests, and files that no artifact has
    uploads whose server died · folders of runs that are gone

Each step may be cut short, and is done again by the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from parallel_hpo.server.artifacts import collections, contents, versions
from parallel_hpo.server.artifacts.contents import LATEST, CleanupStats
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.files import storage as run_files
from parallel_hpo.server.files.storage import BLOBS, MANIFESTS
from parallel_hpo.server.rules.runs import OPEN
from parallel_hpo.server.services.run_transitions import is_unique_point, reopen_point
from parallel_hpo.server.store import (
    artifact_collections,
    artifact_members,
    artifacts,
    holdings,
    pool,
    projects,
    runs,
    sweeps,
)
from parallel_hpo.server.store.artifacts import Artifact
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.holdings import ProjectRest, StorageUsage, StoredSweep
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.values import RefusedError


def measure_sweep(world: AppContext, sweep_id: str) -> StorageUsage:
    """Return what a sweep takes up; nothing where there is no such sweep."""
    with world.database.read() as transaction:
        return holdings.of_sweep(transaction, sweep_id)


def kept_sweeps(world: AppContext) -> list[StoredSweep]:
    """Return all sweeps that there are."""
    with world.database.read() as transaction:
        return holdings.sweeps_kept(transaction)


def remove_sweep(world: AppContext, sweep_id: str) -> None:
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
        holdings.drop_empty_collections(transaction, sweep.project_id)
        holdings.drop_empty_project(transaction, sweep.project_id)


def remove_runs(world: AppContext, run_ids: Sequence[int]) -> None:
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
            for artifact_id in holdings.unfinished_of_run(transaction, run_id):
                artifacts.remove(transaction, artifact_id)
            artifacts.forget_run(transaction, run_id)
            runs.delete(transaction, run_id)
        run_files.discard(world, run_id)


def _remove_unless_wanted(world: AppContext, artifact: Artifact) -> None:
    with world.database.read() as transaction:
        wanted = _is_wanted(transaction, artifact)
    if not wanted:
        versions.delete(world, artifact.id, with_aliases=False)


def _is_wanted(transaction: Transaction, artifact: Artifact) -> bool:
    named = set(artifact_collections.aliases_of_artifact(transaction, artifact.id)) - {LATEST}
    _, *links = artifact_members.of_artifact(transaction, artifact)
    run_ids = artifacts.users(transaction, artifact.id)
    return bool(named or links or run_ids) or artifacts.is_logged_again(transaction, artifact.id)


def delete_run(world: AppContext, run_id: int, *, with_artifacts: bool) -> None:
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
        _reopen_point(transaction, run)
        runs.delete(transaction, run_id)
    run_files.discard(world, run_id)
    for artifact in logged if with_artifacts else ():
        versions.delete(world, artifact.id, with_aliases=True)


def _reopen_point(transaction: Transaction, run: Run) -> None:
    """Let a run's own point be issued again, as W&B does: there one is done while a run of it exists."""
    sweep = None if run.sweep_id is None else sweeps.find(transaction, run.sweep_id)
    if sweep is not None and is_unique_point(sweep, run):
        reopen_point(transaction, run)


def besides_sweeps(world: AppContext, entity: str, project: str) -> ProjectRest | None:
    """Return what a project has besides its sweeps; None: there is no such project."""
    with world.database.read() as transaction:
        found = projects.find(transaction, entity, project)
        return None if found is None else holdings.besides_sweeps(transaction, found)


def remove_project(world: AppContext, entity: str, project: str) -> None:
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
        holdings.drop_empty_project(transaction, found.id)


ABANDONED_S: Final = 7 * 86400
"""An artifact whose client was silent for so long is not committed any more; the longest file takes 14 h
at 1 MB/s, and the client sends several at once."""
ABANDONED_BY_A_RUN_S: Final = 86400
"""The same where its run is over: such a client is dead, or was away until its run counted as crashed."""
_AT_ONCE: Final = 200
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_MANIFEST: Final = re.compile(r"([0-9]{1,9})\.json")
_RUN: Final = re.compile(r"([0-9]{1,9})")


def tidy(world: AppContext, go_on: Callable[[], bool] = lambda: True) -> CleanupStats:
    """Take back what nobody will ask for, for as long as it may go on, and return how much it was."""
    _drop_abandoned(world)
    taken = CleanupStats()
    for names in _batches(world.files / BLOBS, _MD5, go_on):
        unused = contents.unused(world, names)
        taken += contents.take_back(world, unused)
    for names in _batches(world.files / MANIFESTS, _MANIFEST, go_on):
        taken += _remove_manifests(world, names)
    for names in _batches(world.files, _RUN, go_on):
        _remove_folders(world, names)
    run_files.clear_unfinished(world.files)
    return taken


def _drop_abandoned(world: AppContext) -> None:
    since = (world.clock() - ABANDONED_S, world.clock() - ABANDONED_BY_A_RUN_S)
    with world.database.read() as transaction:
        found = holdings.abandoned(transaction, *since)
    if not found:
        return
    with world.database.write() as transaction:
        for artifact_id in holdings.abandoned(transaction, *since):
            artifacts.remove(transaction, artifact_id)


def _remove_manifests(world: AppContext, names: list[str]) -> CleanupStats:
    """Remove manifests of artifacts that are gone."""
    ids = {int(name.removesuffix(".json")) for name in names}
    with world.database.read() as transaction:
        gone = ids - holdings.kept_artifacts(transaction, ids)
    taken = CleanupStats()
    if not gone:
        return taken
    with world.database.write() as transaction:  # no artifact begins meanwhile
        for key in gone - holdings.kept_artifacts(transaction, gone):
            path = contents.manifest_of(key).within(world.files)
            if path.exists():
                taken += CleanupStats(1, path.stat().st_size)
                path.unlink()
    return taken


def _remove_folders(world: AppContext, names: list[str]) -> None:
    """Remove runs' folders whose server died after it had forgotten the run."""
    ids = {int(name) for name in names}
    with world.database.read() as transaction:
        gone = ids - holdings.kept_runs(transaction, ids)
    if not gone:
        return
    with world.database.write() as transaction:  # no run begins meanwhile, and none has files before
        for key in gone - holdings.kept_runs(transaction, gone):
            run_files.discard(world, key)


def _batches(folder: Path, pattern: re.Pattern[str], go_on: Callable[[], bool]) -> Iterator[list[str]]:
    """Yield the names in a folder that are of this form, some at a time."""
    names = [path.name for path in folder.glob("*") if pattern.fullmatch(path.name)]
    for begin in range(0, len(names), _AT_ONCE):
        if go_on():
            yield names[begin : begin + _AT_ONCE]
