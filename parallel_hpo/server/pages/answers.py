"""The files that browsers need, under an address that changes with them: browsers may keep them for ever.

Scripts and styles of several files are joined into one of each: for a report, and to ask a server once only.
Each module becomes a function that returns what it exports. That is enough where modules import each other
in no circle, and by forms that are known here; any other is an error, and a test tries all that there are.

Answers to browsers: what each must carry, HTML from templates, JSON that is packed where it may be.

Nothing of a page comes from another host, nothing in it runs that isn't a file of ours, and no page of
another port may frame it or read what is answered.

Those that several open pages share are kept: whoever asks the same soon after another is told the same.
"""

from __future__ import annotations

import gzip
import hashlib
import json as json_library
import mimetypes
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from parallel_hpo.server.values import RefusedError

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


POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_GUARDS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_TEMPLATES: Final = Path(__file__).parent / "templates"
_WORTH_PACKING: Final = 1000

_KEPT: Final = 32


def guarded(response: Response) -> Response:
    """Return a response with the headers that all have; its own stay."""
    for name, value in _GUARDS.items():
        response.headers.setdefault(name, value)
    return response


def html(template: str, status: int = 200, **words: Any) -> Response:
    """Return a page; its words are text, whatever stands in them."""
    page = rendered(template, static=base(), **words)
    return guarded(Response(page, status, media_type="text/html"))


def rendered(template: str, **words: Any) -> str:
    """Return HTML of a template; its words are text, whatever stands in them."""
    page: str = _templates().get_template(template).render(**words)
    return page


def dump(value: Any) -> bytes:
    """Return a value as JSON, which has no surrogates."""
    text = json_library.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode(errors="replace")


def object_of(parts: Mapping[str, bytes]) -> bytes:
    """Return an object of values that are JSON already."""
    return b"{" + b",".join(dump(name) + b":" + body for name, body in parts.items()) + b"}"


def json(request: Request, body: bytes) -> Response:
    """Return JSON, packed where the browser takes it; call it in a thread: to pack takes a while."""
    response = Response(body, media_type="application/json")
    if len(body) >= _WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        response = Response(
            _packed(body), media_type="application/json", headers={"Content-Encoding": "gzip"}
        )
    response.headers["Vary"] = "Accept-Encoding"
    return guarded(response)


@lru_cache(8)
def _packed(body: bytes) -> bytes:
    """Pack an answer, which several pages may be given, in a quarter of the time for a twentieth more."""
    return gzip.compress(body, 1)


@cache
def _templates() -> Any:
    from jinja2 import (  # a server without pages needs none of it
        Environment,
        FileSystemLoader,
        StrictUndefined,
    )

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
    """The answers of the last `fresh_s` seconds; any thread may ask."""

    def __init__(self, fresh_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_s = fresh_s
        self._clock = clock
        self._known: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._lock = Lock()

    def answer(self, question: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return what `make` returned lately, or returns now: once for all who ask at the same time."""
        known = self._of(question)
        with known.lock:
            now = self._clock()  # before it is made: it is not newer than that
            if now - known.made_at >= self._fresh_s:
                known.body = make()
                known.made_at = now
            return known.body

    def _of(self, question: Hashable) -> _Answer:
        with self._lock:
            known = self._known.setdefault(question, _Answer())
            self._known.move_to_end(question)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return known
