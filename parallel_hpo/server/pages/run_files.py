"""Files that runs sent: to be kept, or, where it is a picture, to be shown; and tables, row by row."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import FileResponse, Response

from parallel_hpo.server.files.addresses import Place, plain
from parallel_hpo.server.pages.run_data import IMAGE_TYPES, run_at
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.world import World

_MOST_ROWS: Final = 1000
_MOST_BYTES: Final = 32 * 2**20


def download(world: World, path: RunPath, name: str) -> Response:
    """Return a file, never as a page of ours: what a run stored must not act for whoever opens it."""
    file = _file(world, path, name)
    saved = quote(PurePosixPath(name).name)
    headers = {"Content-Disposition": f"attachment; filename*=utf-8''{saved}"}
    return FileResponse(file, media_type="application/octet-stream", headers=headers)


def picture(world: World, path: RunPath, name: str) -> Response:
    """Return a picture to be shown; RefusedError (415) for any other file."""
    kind = IMAGE_TYPES.get(PurePosixPath(name).suffix.lower())
    if kind is None:
        raise RefusedError("only pictures are shown here", status=415)
    # The name of a run's picture has its digest: it stays as it is.
    return FileResponse(_file(world, path, name), media_type=kind, headers={"Cache-Control": "private"})


def table(world: World, path: RunPath, name: str) -> dict[str, Any]:
    """Return a logged table's columns and its first rows; RefusedError where the file is none."""
    file = _file(world, path, name)
    if file.stat().st_size > _MOST_BYTES:
        raise RefusedError(f"the table is bigger than {_MOST_BYTES} bytes: download it", status=413)
    try:
        whole = json.loads(file.read_bytes())
        columns, rows = whole["columns"], whole["data"]
        shown = [list(row) for row in rows[:_MOST_ROWS]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RefusedError("this file is no table of wandb's", status=415) from None
    return {"columns": [str(column) for column in columns], "rows": shown, "number": len(rows)}


def _file(world: World, path: RunPath, name: str) -> Path:
    with world.database.read() as transaction:
        run = run_at(transaction, path)
    file = Place(str(run.id), plain(name)).within(world.files)
    if not file.is_file():
        raise RefusedError("this file is not there, or not any more", status=404)
    return file
