"""Answers to browsers: what each must carry, HTML from templates, JSON that is packed where it may be.

Nothing of a page comes from another host, nothing in it runs that isn't a file of ours, and no page of
another port may frame it or read what is answered.

Those that several open pages share are kept: whoever asks the same soon after another is told the same.
"""

from __future__ import annotations

import gzip
import json as json_library
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from parallel_hpo.server.pages import static

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
    page = rendered(template, static=static.base(), **words)
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


class Recent:
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
