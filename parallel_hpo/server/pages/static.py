"""The files that browsers need, under an address that changes with them: browsers may keep them for ever.

Scripts and styles of several files are joined into one of each: for a report, and to ask a server once only.
Each module becomes a function that returns what it exports. That is enough where modules import each other
in no circle, and by forms that are known here; any other is an error, and a test tries all that there are.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final

from starlette.responses import FileResponse, Response

from parallel_hpo.server.refusals import RefusedError

_IMPORT: Final = re.compile(
    r'^import (?:\{(?P<names>[^}]*)\}|\* as (?P<whole>\w+)|(?P<default>\w+)) from "(?P<path>[^"]+)";$',
    re.MULTILINE,
)
_EXPORT: Final = re.compile(r"^export ((?:async )?(?:function|class|const) )(\w+)", re.MULTILINE)
_EXPORT_LIST: Final = re.compile(r"export\s*\{([^}]*)\};?\s*$")
_UNKNOWN: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_STYLE: Final = re.compile(r'@import url\("([^"]+)"\);')
_WORDS_THAT_END_A_SCRIPT: Final = re.compile(r"</script|<!--", re.IGNORECASE)

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
    return script(FOLDER, name)


def file(name: str) -> Response:
    """Return one of them; RefusedError (404) where there is none."""
    if name in _PAGES:
        return Response(_joined(name), media_type=_TYPES[".js"], headers=_KEPT_FOR_EVER)
    path = (FOLDER / name).resolve()
    if not path.is_relative_to(FOLDER.resolve()) or not path.is_file():
        raise RefusedError("there is no such file", status=404)
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, headers=_KEPT_FOR_EVER)


class UnlinkableError(Exception):
    """A script that can't be joined with others; its words say which one, and why."""


@dataclass
class _Linker:
    folder: Path
    linked: dict[str, str] = field(default_factory=dict)
    """Scripts that are functions by now, by their file's name, in the order in which they must run."""
    begun: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Link a script behind those that it imports."""
        if name in self.linked:
            return
        if name in self.begun:
            raise UnlinkableError(f"{name} is reached by its own imports: {' → '.join([*self.begun, name])}")
        self.begun.append(name)
        source = (self.folder / name).read_text(encoding="utf-8")
        for found in _IMPORT.finditer(source):
            self.add(_beside(name, found["path"]))
        self.linked[name] = _as_function(name, source)
        self.begun.pop()


def script(folder: Path, entry: str) -> str:
    """Return one script of all that a module leads to; UnlinkableError where that can't be done."""
    linker = _Linker(folder)
    linker.add(entry)
    joined = "\n".join(linker.linked.values())
    if _WORDS_THAT_END_A_SCRIPT.search(joined):
        raise UnlinkableError(f"something that {entry} leads to holds words that would end a script in HTML")
    return joined


def style(folder: Path, *names: str) -> str:
    """Return one style sheet of several, with those that they import."""
    return "\n".join(_with_imports(folder, name) for name in names)


def _with_imports(folder: Path, name: str) -> str:
    source = (folder / name).read_text(encoding="utf-8")
    return _STYLE.sub(lambda found: _with_imports(folder, _beside(name, found[1])), source)


def _beside(name: str, path: str) -> str:
    """Return the file that a path in another file means."""
    parts: list[str] = []
    for part in (PurePosixPath(name).parent / path).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _as_function(name: str, source: str) -> str:
    """Return a constant that holds what the module exports."""
    exported = dict(_exports_of(source))
    body = _EXPORT_LIST.sub("", _EXPORT.sub(r"\1\2", source))
    body = _IMPORT.sub(lambda found: _as_constant(name, found), body)
    if unknown := _UNKNOWN.search(body):
        raise UnlinkableError(f"{name}: this form is not known: {unknown[0]}")
    given = ", ".join(f"{as_name}: {local}" for as_name, local in exported.items())
    return f"const {_variable(name)} = (() => {{\n{body}\nreturn {{ {given} }};\n}})();"


def _exports_of(source: str) -> Iterator[tuple[str, str]]:
    """Yield the names that a module exports, with its own names for them."""
    for found in _EXPORT.finditer(source):
        yield found[2], found[2]
    if listed := _EXPORT_LIST.search(source):
        for item in listed[1].split(","):
            local, _, as_name = item.strip().partition(" as ")
            yield (as_name or local), local


def _as_constant(name: str, found: re.Match[str]) -> str:
    source = _variable(_beside(name, found["path"]))
    if found["whole"]:
        return f"const {found['whole']} = {source};"
    if found["default"]:
        return f"const {found['default']} = {source}.default;"
    names = re.sub(r"(\w+) as (\w+)", r"\1: \2", found["names"])
    return f"const {{{names}}} = {source};"


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name)
