"""The files of a run and of its artifacts for the pages: to download, as text, picture or table."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import FileResponse, Response

from parallel_hpo.server.artifacts.contents import blob_of
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.files.storage import FileRef, check_path
from parallel_hpo.server.pages.run_data import IMAGE_TYPES, run_at
from parallel_hpo.server.store import artifact_collections, artifacts, runs
from parallel_hpo.server.store.artifacts import Artifact
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError

_MAX_TABLE_ROWS: Final = 1000
_MAX_TABLE_BYTES: Final = 32 * 2**20
_MAX_TEXT_BYTES: Final = 2**20
_MAX_FILES: Final = 1000
"""Maximum number of listed files of an artifact."""
_BYTES: Final = "application/octet-stream"
_GONE: Final = "this file doesn't exist or was deleted"


def path_of(world: AppContext, at: RunPath, name: str, artifact_id: int | None = None) -> Path:
    """Return a file of a run, or of an artifact that it logged or used; RefusedError (404) without one."""
    with world.database.read() as transaction:
        run = run_at(transaction, at)
        if artifact_id is None:
            file_ref = FileRef(str(run.id), check_path(name))
        else:
            found = artifacts.files_of(transaction, _of_run(transaction, run, artifact_id).id, [name])
            if not found or found[0].ref is not None:
                raise RefusedError(_GONE, status=404)
            file_ref = blob_of(found[0].digest)
    file = file_ref.path_in(world.files)
    if not file.is_file():
        raise RefusedError(_GONE, status=404)
    return file


def download(file: tuple[Path, str]) -> Response:
    """Return a file as a download, never as a page: a run's file must not act with the viewer's rights."""
    path, name = file
    return FileResponse(path, media_type=_BYTES, headers=_saved_as(PurePosixPath(name).name))


def download_text(words: str, name: str) -> Response:
    """Return a text as the download of a file `name`."""
    return Response(words, media_type=_BYTES, headers=_saved_as(name))


def _saved_as(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}"}


def picture(file: tuple[Path, str]) -> Response:
    """Return a picture to show inline; RefusedError (415) for any other file."""
    path, name = file
    kind = IMAGE_TYPES.get(PurePosixPath(name).suffix.lower())
    if kind is None:
        raise RefusedError("only pictures are shown here", status=415)
    # The name of a run's picture contains its digest: the content of a URL never changes.
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "private"})


def text(path: Path) -> str:
    """Return a file's text; RefusedError if it is long or no text."""
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise RefusedError(f"the file is larger than {_MAX_TEXT_BYTES} bytes: download it", status=413)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RefusedError("this file is no text: download it", status=415) from None


def table(path: Path) -> dict[str, Any]:
    """Return a logged table's columns and first rows; RefusedError if the file is no table."""
    if path.stat().st_size > _MAX_TABLE_BYTES:
        raise RefusedError(f"the table is larger than {_MAX_TABLE_BYTES} bytes: download it", status=413)
    try:
        whole = json.loads(path.read_bytes())
        columns, rows = whole["columns"], whole["data"]
        shown = [list(row) for row in rows[:_MAX_TABLE_ROWS]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RefusedError("this file is not a wandb table", status=415) from None
    return {"columns": [str(column) for column in columns], "rows": shown, "number": len(rows)}


def artifact(world: AppContext, at: RunPath, artifact_id: int) -> dict[str, Any]:
    """Return an artifact's files, the versions of its collection, and the runs that use it."""
    with world.database.read() as transaction:
        found = _of_run(transaction, run_at(transaction, at), artifact_id)
        versions = artifacts.versions(transaction, found.collection.id)
        makers = runs.with_ids(transaction, [each.run_id for each in versions if each.run_id is not None])
        names = {run.id: run.name for run in makers if run is not None}
        entries = artifacts.files_of(transaction, found.id)
        users = runs.with_ids(transaction, artifacts.users(transaction, found.id))
        return {
            "files": [{"name": e.path, "size": e.size, "url": e.ref} for e in entries[:_MAX_FILES]],
            "versions": [
                {
                    "name": f"v{each.version}",
                    "aliases": artifact_collections.aliases_of_artifact(transaction, each.id),
                    "created": each.created_at,
                    "run": None if each.run_id is None else names.get(each.run_id),
                }
                for each in versions
            ],
            "users": [run.name for run in users if run is not None],
        }


def _of_run(transaction: Transaction, run: Run, artifact_id: int) -> Artifact:
    for each in (*artifacts.outputs_of_run(transaction, run.id), *artifacts.used_by_run(transaction, run.id)):
        if each.id == artifact_id:
            return each
    raise RefusedError(f"run {run.name} has no artifact {artifact_id}", status=404)
