"""Removal of runs, sweeps and projects, and garbage collection.

Runs are removed one by one, so that other writes get their turn. A removal may be interrupted at any
moment and repeated. An artifact stays if a run outside the sweep uses it or logged it too, if it has an
alias of its own, or if it is in a portfolio; it goes with its project. Deletion of a single run removes its
lines and files, and on request the artifacts that it logged.

`tidy` collects garbage now and then: artifacts that were never committed with their manifests, files without
an artifact, uploads whose server died, and folders of deleted runs. Each step may be interrupted.
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


def measure_sweep(app: AppContext, sweep_id: str) -> StorageUsage:
    """Return a sweep's storage usage; zero for an unknown sweep."""
    with app.database.read() as transaction:
        return holdings.of_sweep(transaction, sweep_id)


def list_sweeps(app: AppContext) -> list[StoredSweep]:
    """Return all sweeps, least recently active first."""
    with app.database.read() as transaction:
        return holdings.list_sweeps(transaction)


def remove_sweep(app: AppContext, sweep_id: str) -> None:
    """Remove a sweep, and its project if that is empty then; an unknown sweep is ignored.

    The database's file keeps its size.
    """
    with app.database.read() as transaction:
        sweep = sweeps.find(transaction, sweep_id)
        run_ids = [run.id for run in runs.of_sweep(transaction, sweep_id)]
        has_pool = pool.find(transaction, sweep_id) is not None
    if has_pool:  # the sweep itself may be on another server
        with app.database.write() as transaction:
            pool.delete_pool(transaction, sweep_id)
        app.notices.forget(sweep_id)
    if sweep is None:
        return
    remove_runs(app, run_ids)
    with app.database.write() as transaction:
        sweeps.delete(transaction, sweep_id)
        holdings.drop_empty_collections(transaction, sweep.project_id)
        holdings.drop_empty_project(transaction, sweep.project_id)


def remove_runs(app: AppContext, run_ids: Sequence[int]) -> None:
    """Remove runs with their lines, files and artifacts; the run's row goes last, as it leads to the rest."""
    for run_id in run_ids:
        with app.database.write() as transaction:
            artifacts.forget_uses(transaction, run_id)
    for run_id in run_ids:
        with app.database.read() as transaction:
            logged = artifacts.logged_by_run(transaction, run_id)
        for artifact in logged:
            _remove_unless_wanted(app, artifact)
        with app.database.write() as transaction:
            for artifact_id in holdings.unfinished_of_run(transaction, run_id):
                artifacts.remove(transaction, artifact_id)
            artifacts.forget_run(transaction, run_id)
            runs.delete(transaction, run_id)
        run_files.delete_folder(app, run_id)


def _remove_unless_wanted(app: AppContext, artifact: Artifact) -> None:
    with app.database.read() as transaction:
        wanted = _is_wanted(transaction, artifact)
    if not wanted:
        versions.delete(app, artifact.id, with_aliases=False)


def _is_wanted(transaction: Transaction, artifact: Artifact) -> bool:
    named = set(artifact_collections.aliases_of_artifact(transaction, artifact.id)) - {LATEST}
    _, *links = artifact_members.of_artifact(transaction, artifact)
    run_ids = artifacts.users(transaction, artifact.id)
    return bool(named or links or run_ids) or artifacts.is_logged_again(transaction, artifact.id)


def delete_run(app: AppContext, run_id: int, *, with_artifacts: bool) -> None:
    """Delete a run; a deleted one is ignored. RefusedError for an active run of a sweep."""
    with app.database.write() as transaction:
        run = runs.find(transaction, run_id)
        if run is None and runs.is_there(transaction, run_id):
            raise RefusedError("this run doesn't exist, or belongs to another sweep", status=404)
        if run is None:
            return
        if run.sweep_id is not None and run.state in OPEN:
            raise RefusedError(f"run {run.name} of sweep {run.sweep_id} is still active: stop it first")
        logged = artifacts.logged_by_run(transaction, run_id)
        artifacts.forget_run(transaction, run_id)
        _reopen_point(transaction, run)
        runs.delete(transaction, run_id)
    run_files.delete_folder(app, run_id)
    for artifact in logged if with_artifacts else ():
        versions.delete(app, artifact.id, with_aliases=True)


def _reopen_point(transaction: Transaction, run: Run) -> None:
    """Open a run's point again, as W&B does: a point counts as done only while its run exists."""
    sweep = None if run.sweep_id is None else sweeps.find(transaction, run.sweep_id)
    if sweep is not None and is_unique_point(sweep, run):
        reopen_point(transaction, run)


def besides_sweeps(app: AppContext, entity: str, project: str) -> ProjectRest | None:
    """Return a project's contents outside its sweeps; None for an unknown project."""
    with app.database.read() as transaction:
        found = projects.find(transaction, entity, project)
        return None if found is None else holdings.besides_sweeps(transaction, found)


def remove_project(app: AppContext, entity: str, project: str) -> None:
    """Remove a project; an unknown one is ignored."""
    with app.database.read() as transaction:
        found = projects.find(transaction, entity, project)
        if found is None:
            return
        sweep_ids = sweeps.ids_in_project(transaction, found.id)
        run_ids = runs.ids_of_no_sweep(transaction, found.id)
    for sweep_id in sweep_ids:
        remove_sweep(app, sweep_id)
    remove_runs(app, run_ids)
    with app.database.read() as transaction:
        left = artifact_collections.of_project(transaction, found.id)
    for collection in left:
        collections.delete(app, collection.id)
    with app.database.write() as transaction:
        holdings.drop_empty_project(transaction, found.id)


ABANDONED_S: Final = 7 * 86400
"""Timeout of an uncommitted artifact after its client's last request, in seconds; the biggest file takes 14 h
at 1 MB/s, and the client sends several at once."""
ABANDONED_BY_A_RUN_S: Final = 86400
"""The same after its run has ended: the client is dead, or was away until its run counted as crashed."""
_AT_ONCE: Final = 200
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_MANIFEST: Final = re.compile(r"([0-9]{1,9})\.json")
_RUN: Final = re.compile(r"([0-9]{1,9})")


def tidy(app: AppContext, go_on: Callable[[], bool] = lambda: True) -> CleanupStats:
    """Collect garbage while `go_on` returns True, and return how much was deleted."""
    _drop_abandoned(app)
    taken = CleanupStats()
    for names in _batches(app.files / BLOBS, _MD5, go_on):
        unused = contents.unused(app, names)
        taken += contents.delete_unused(app, unused)
    for names in _batches(app.files / MANIFESTS, _MANIFEST, go_on):
        taken += _remove_manifests(app, names)
    for names in _batches(app.files, _RUN, go_on):
        _remove_folders(app, names)
    run_files.clear_unfinished(app.files)
    return taken


def _drop_abandoned(app: AppContext) -> None:
    since = (app.clock() - ABANDONED_S, app.clock() - ABANDONED_BY_A_RUN_S)
    with app.database.read() as transaction:
        found = holdings.abandoned(transaction, *since)
    if not found:
        return
    with app.database.write() as transaction:
        for artifact_id in holdings.abandoned(transaction, *since):
            artifacts.remove(transaction, artifact_id)


def _remove_manifests(app: AppContext, names: list[str]) -> CleanupStats:
    """Remove the manifests of deleted artifacts."""
    ids = {int(name.removesuffix(".json")) for name in names}
    with app.database.read() as transaction:
        gone = ids - holdings.kept_artifacts(transaction, ids)
    taken = CleanupStats()
    if not gone:
        return taken
    with app.database.write() as transaction:  # no artifact is created during it
        for key in gone - holdings.kept_artifacts(transaction, gone):
            path = contents.manifest_of(key).path_in(app.files)
            if path.exists():
                taken += CleanupStats(1, path.stat().st_size)
                path.unlink()
    return taken


def _remove_folders(app: AppContext, names: list[str]) -> None:
    """Remove the folders of runs whose server died after it had deleted the run's row."""
    ids = {int(name) for name in names}
    with app.database.read() as transaction:
        gone = ids - holdings.kept_runs(transaction, ids)
    if not gone:
        return
    with app.database.write() as transaction:  # no run is created during it, and files come after the run
        for key in gone - holdings.kept_runs(transaction, gone):
            run_files.delete_folder(app, key)


def _batches(folder: Path, pattern: re.Pattern[str], go_on: Callable[[], bool]) -> Iterator[list[str]]:
    """Yield the names in a folder that match a pattern, in batches."""
    names = [path.name for path in folder.glob("*") if pattern.fullmatch(path.name)]
    for begin in range(0, len(names), _AT_ONCE):
        if go_on():
            yield names[begin : begin + _AT_ONCE]
