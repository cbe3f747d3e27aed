"""Requests' bodies: they come within a time, are bounded, packed or not, and are what they should be."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.requests import Request

from parallel_hpo.server.http.connections import STALL_LIMIT_S
from parallel_hpo.server.refusals import RefusedError

_MAX_BODY_BYTES: Final = 64 * 2**20
_GZIP: Final = 16 + zlib.MAX_WBITS
"""As zlib calls a stream with gzip's head and checksum."""


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield a body; TimeoutError where its next piece doesn't come."""
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(STALL_LIMIT_S):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise TimeoutError(f"nothing more of the body has come for {STALL_LIMIT_S:g} s") from None
        yield piece


async def json_body(request: Request) -> Any:
    """Read a bounded JSON body; RefusedError (413, 415 or 400): too big, packed otherwise, or no JSON."""
    unpack = unpacker(request.headers.get("content-encoding", ""))
    body = bytearray()
    async for piece in pieces(request):
        body += unpack.piece(piece, _MAX_BODY_BYTES + 1 - len(body))
        if len(body) > _MAX_BODY_BYTES:
            raise RefusedError(f"the body is bigger than {_MAX_BODY_BYTES} bytes", status=413)
    unpack.end()
    try:
        value = json.loads(body)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # lone surrogates can't be stored
    except (ValueError, RecursionError):
        raise RefusedError("the body is not valid JSON", status=400) from None
    return value


class Plain:
    """A body that is sent as it is."""

    def piece(self, packed: bytes, room: int) -> bytes:
        """Return what a piece of the body stands for, of at most `room` bytes where it is packed."""
        return packed

    def end(self) -> None:
        """Refuse (400) a body that ends too early."""


class Gzip(Plain):
    """A body that is packed by gzip, as wandb's client sends streams where it is let."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)

    def piece(self, packed: bytes, room: int) -> bytes:
        """Unpack no more than there is room for: a megabyte may stand for a thousand."""
        try:
            unpacked = self._stream.decompress(packed, room)
        except zlib.error:
            raise _no_gzip() from None
        if self._stream.unused_data:  # something comes after its end
            raise _no_gzip()
        return unpacked

    def end(self) -> None:
        """See that all came."""
        if not self._stream.eof:
            raise _no_gzip()


def unpacker(encoding: str) -> Plain:
    """Return what undoes a Content-Encoding; RefusedError (415) where we can't."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return Plain()
    if name in ("gzip", "x-gzip"):
        return Gzip()
    raise RefusedError(f"the body's Content-Encoding {encoding[:40]!r}: only gzip is taken", status=415)


def _no_gzip() -> RefusedError:
    return RefusedError("the body is not valid gzip, as its Content-Encoding says", status=400)


def text_in(body: Any, name: str) -> str:
    """Return a text of a JSON body; RefusedError where it has none."""
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str):
        raise RefusedError(f"the body must be an object with a string {name!r}", status=400)
    return value


def texts_in(body: Any, name: str) -> frozenset[str]:
    """Return a list of texts of a JSON body, empty where it has none; RefusedError for anything else."""
    value = body.get(name, []) if isinstance(body, dict) else None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RefusedError(f"{name} must be a list of texts", status=400)
    return frozenset(value)
