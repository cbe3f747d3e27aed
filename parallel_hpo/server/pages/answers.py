"""Responses to browsers: static files, HTML from templates, compressed JSON, security headers, a short cache.

The URL of static files contains a digest of them, so browsers may cache them forever. The modules that a page
imports are joined into one script, without comments and indentation: each becomes a function that returns its
exports. This supports the forms of import and export in `_IMPORT` and `_EXPORT`, and no import cycles;
anything else raises UnlinkableError, and a test joins every page. Pages load nothing from other hosts, and
pages of other ports may not frame them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json as json_library
import mimetypes
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from parallel_hpo.server.values import RefusedError

_IMPORT: Final = re.compile(r'^import \{(?P<names>[^}]*)\} from "(?P<path>[^"]+)";$', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ((?:async )?(?:function|class|const) )(\w+)", re.MULTILINE)
_UNKNOWN: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_ONLY_FOR_AUTHORS: Final = re.compile(
    r"^ *(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/)?\n|^ +|(?<=[;,{}]) // .*", re.MULTILINE
)
"""Lines of comments, empty lines, indentation, and comments after code."""
_STYLE: Final = re.compile(r'@import url\("([^"]+)"\);')
_INLINED: Final = re.compile(r'url\("([^":]+\.(?:svg|woff2))"\)')
_ENDS_A_SCRIPT: Final = re.compile(r"</script|<!--", re.IGNORECASE)

_PAGES: Final = ("home.js", "sweep.js", "run.js", "project.js")
"""Scripts that templates load."""
_CACHED_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


@cache
def version() -> str:
    """Return a digest of all static files."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(FOLDER)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def base() -> str:
    """Return the URL path of the static files."""
    return f"/pages/static/{version()}"


@cache
def _joined(name: str) -> str:
    """Return a page's script joined with its imports: one request instead of thirty, five levels deep."""
    return script(FOLDER, name)


def file(name: str) -> Response:
    """Return a static file; RefusedError (404) if it doesn't exist."""
    if name in _PAGES:
        return Response(_joined(name), media_type=_TYPES[".js"], headers=_CACHED_FOREVER)
    path = (FOLDER / name).resolve()
    if not path.is_relative_to(FOLDER.resolve()) or not path.is_file():
        raise RefusedError("this file doesn't exist", status=404)
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, headers=_CACHED_FOREVER)


class UnlinkableError(Exception):
    """A script can't be joined with others; the message says which one, and why."""


@dataclass
class _Linker:
    folder: Path
    linked: dict[str, str] = field(default_factory=dict)
    """Finished functions by file name, in the order in which they must run."""
    begun: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Add a script after the ones that it imports."""
        if name in self.linked:
            return
        if name in self.begun:
            raise UnlinkableError(f"import cycle: {' → '.join([*self.begun, name])}")
        self.begun.append(name)
        source = (self.folder / name).read_text(encoding="utf-8")
        for found in _IMPORT.finditer(source):
            self.add(_beside(name, found["path"]))
        self.linked[name] = self._as_function(name, source)
        self.begun.pop()

    def _variable(self, name: str) -> str:
        """Return the constant that holds a script's exports; scripts are numbered as they run."""
        known = list(self.linked)
        return f"${known.index(name) if name in known else len(known)}"

    def _as_function(self, name: str, source: str) -> str:
        """Return the source of a constant that holds the module's exports."""
        given = ", ".join(found[2] for found in _EXPORT.finditer(source))
        body = _EXPORT.sub(r"\1\2", source)
        body = _IMPORT.sub(lambda found: self._as_constant(name, found), body)
        if unknown := _UNKNOWN.search(body):
            raise UnlinkableError(f"{name}: unsupported form of import or export: {unknown[0]}")
        body = _ONLY_FOR_AUTHORS.sub("", body)
        return f"const {self._variable(name)} = (() => {{\n{body}\nreturn {{ {given} }};\n}})();"

    def _as_constant(self, name: str, found: re.Match[str]) -> str:
        names = re.sub(r"(\w+) as (\w+)", r"\1: \2", found["names"])
        return f"const {{{names}}} = {self._variable(_beside(name, found['path']))};"


def script(folder: Path, entry: str) -> str:
    """Return a module joined with everything that it imports; UnlinkableError if that is impossible."""
    linker = _Linker(folder)
    linker.add(entry)
    joined = "\n".join(linker.linked.values())
    if _ENDS_A_SCRIPT.search(joined):
        raise UnlinkableError(f"{entry} or one of its imports contains text that ends a script in HTML")
    return joined


def style(folder: Path, *names: str) -> str:
    """Return several style sheets as one that contains their imports, fonts and icons."""
    return "\n".join(_with_imports(folder, name) for name in names)


def _with_imports(folder: Path, name: str) -> str:
    source = (folder / name).read_text(encoding="utf-8")
    source = _INLINED.sub(lambda found: f'url("{_as_data(folder / _beside(name, found[1]))}")', source)
    return _STYLE.sub(lambda found: _with_imports(folder, _beside(name, found[1])), source)


def _as_data(file: Path) -> str:
    return f"data:{_TYPES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _beside(name: str, path: str) -> str:
    """Return the path of a file that `name` imports as `path`."""
    parts: list[str] = []
    for part in (PurePosixPath(name).parent / path).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_TEMPLATES: Final = Path(__file__).parent / "templates"
_MIN_COMPRESSED_BYTES: Final = 1000

_MAX_ANSWERS: Final = 32


def address(*parts: str) -> str:
    """Return the path of a page: an entity, a project, and what is below."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def guarded(response: Response) -> Response:
    """Add the security headers to a response, except those that it has already."""
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def html(template: str, status: int = 200, **words: Any) -> Response:
    """Return a page from a template; `words` are escaped."""
    page = rendered(template, static=base(), **words)
    return guarded(Response(page, status, media_type="text/html"))


def rendered(template: str, **words: Any) -> str:
    """Return the HTML of a template; `words` are escaped."""
    page: str = _templates().get_template(template).render(**words)
    return page


def dump(value: Any) -> bytes:
    """Return a value as JSON in UTF-8, without surrogates."""
    text = json_library.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode(errors="replace")


def object_of(parts: Mapping[str, bytes]) -> bytes:
    """Return a JSON object whose values are encoded already."""
    return b"{" + b",".join(dump(name) + b":" + body for name, body in parts.items()) + b"}"


def json(request: Request, body: bytes) -> Response:
    """Return JSON, compressed if the browser accepts it; call it in a thread, compression takes time."""
    response = Response(body, media_type="application/json")
    if len(body) >= _MIN_COMPRESSED_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        response = Response(
            _compressed(body), media_type="application/json", headers={"Content-Encoding": "gzip"}
        )
    response.headers["Vary"] = "Accept-Encoding"
    return guarded(response)


@lru_cache(8)
def _compressed(body: bytes) -> bytes:
    """Compress an answer at level 1: a quarter of the default level's time, 5 % larger. Pages share it."""
    return gzip.compress(body, 1)


@cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only if a page is opened

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@dataclass(slots=True)
class _Answer:
    made_at: float = float("-inf")
    body: bytes = b""
    lock: Lock = field(default_factory=Lock)


class RecentAnswers:
    """Caches answers for `fresh_s` seconds, so that several open pages share them; thread-safe."""

    def __init__(self, fresh_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_s = fresh_s
        self._clock = clock
        self._known: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._lock = Lock()

    def answer(self, question: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return the cached answer, or call `make` once for all simultaneous requests."""
        known = self._of(question)
        with known.lock:
            now = self._clock()  # before `make`: the answer is at least as old as its start
            if now - known.made_at >= self._fresh_s:
                known.body = make()
                known.made_at = now
            return known.body

    def _of(self, question: Hashable) -> _Answer:
        with self._lock:
            known = self._known.setdefault(question, _Answer())
            self._known.move_to_end(question)
            while len(self._known) > _MAX_ANSWERS:
                self._known.popitem(last=False)
            return known
