"""The files that browsers need, under an address that changes with them: browsers may keep them for ever."""

from __future__ import annotations

import hashlib
import mimetypes
from functools import cache
from pathlib import Path
from typing import Final

from starlette.responses import FileResponse, Response

from parallel_hpo.server.pages import linking
from parallel_hpo.server.refusals import RefusedError

_PAGES: Final = ("sweep.js", "run.js", "project.js")
"""The scripts that templates name."""
_KEPT_FOR_EVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


@cache
def version() -> str:
    """Return what stands for all files as they are now."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(FOLDER)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def base() -> str:
    """Return where they are."""
    return f"/pages/static/{version()}"


@cache
def _joined(name: str) -> str:
    """Return a page's script with all that it imports: one question instead of thirty, five deep."""
    return linking.script(FOLDER, name)


def file(name: str) -> Response:
    """Return one of them; RefusedError (404) where there is none."""
    if name in _PAGES:
        return Response(_joined(name), media_type=_TYPES[".js"], headers=_KEPT_FOR_EVER)
    path = (FOLDER / name).resolve()
    if not path.is_relative_to(FOLDER.resolve()) or not path.is_file():
        raise RefusedError("there is no such file", status=404)
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, headers=_KEPT_FOR_EVER)
