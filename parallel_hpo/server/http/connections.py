"""Limits of connections and of request bodies, so that no client blocks the others.

Uvicorn closes a connection that is idle after an answer, but not one that never sends a whole request or
never reads its answer: TimeoutProtocol closes those. Idle connections above the maximum are closed too:

    opened ─▶ anonymous ─▶ busy ─▶ authenticated, if its request had a key ─▶ busy ─▶ …
                 ▲          └───▶ anonymous, if it had none

The oldest anonymous one is closed first, then the authenticated one that was idle longest. So clients
without a key can't keep out those with one.
"""

from __future__ import annotations

import asyncio
import json
import resource
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

import h11
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from parallel_hpo.server.values import RefusedError

Conn = TypeVar("Conn")

STALL_LIMIT_S: Final = 60.0
"""Timeout of a body's next piece, and of the reader of an answer, in seconds."""
MAX_CONNECTIONS: Final = 10_000
"""Maximum number of connections; one process has no use for more."""


class ConnectionLimiter(Generic[Conn]):
    """The open connections, at most `max_open`."""

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        # Dicts keep insertion order.
        self._anonymous: dict[Conn, None] = {}
        self._authenticated: dict[Conn, None] = {}
        self._busy: set[Conn] = set()

    def add(self, connection: Conn) -> Conn | None:
        """Add a connection, and return the one to be closed for it, if any."""
        self._anonymous[connection] = None
        if len(self._anonymous) + len(self._authenticated) + len(self._busy) <= self._max_open:
            return None
        excess = self._choose_excess(connection)
        self.remove(excess)
        return excess

    def _choose_excess(self, newest: Conn) -> Conn:
        idle = (connection for group in (self._anonymous, self._authenticated) for connection in group)
        return next((connection for connection in idle if connection is not newest), newest)

    def begin(self, connection: Conn) -> None:
        """Mark a connection as busy with a request."""
        self.remove(connection)
        self._busy.add(connection)

    def end(self, connection: Conn, *, had_key: bool) -> None:
        """Mark a connection as idle after its answer."""
        self.remove(connection)
        (self._authenticated if had_key else self._anonymous)[connection] = None

    def remove(self, connection: Conn) -> None:
        """Remove a connection that is closed, or about to be."""
        self._anonymous.pop(connection, None)
        self._authenticated.pop(connection, None)
        self._busy.discard(connection)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Timeouts of a connection, in seconds."""

    head_s: float = 10.0
    """For the first line and the headers of a request; clients send them at once."""
    reader_s: float = STALL_LIMIT_S


WHOLE_BYTES: Final = 64 * 1024
"""Size up to which an answer is sent in one piece."""


class WholeAnswers:
    """A transport that joins the writes of one turn of the event loop into one.

    Uvicorn writes the head and the body of an answer apart. A server that is killed in between has sent half
    an answer, which wandb-core does not ask for again: "Error initializing run: unexpected EOF".
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Write data at the end of this turn, or now if it is much."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._bytes += len(data)
        if self._bytes > WHOLE_BYTES:
            self._flush()

    def close(self) -> None:
        """Close the transport, once all is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            data, self._parts, self._bytes = b"".join(self._parts), [], 0
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class TimeoutProtocol(H11Protocol):
    """Uvicorn's protocol with timeouts and a limiter, whose short answers are sent in one piece."""

    def __init__(
        self,
        *,
        limiter: ConnectionLimiter[TimeoutProtocol],
        limits: ConnectionLimits = ConnectionLimits(),
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._limiter = limiter
        self._limits = limits
        self._closing: asyncio.TimerHandle | None = None
        """The timer that closes the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Add the connection, and close another one above the maximum."""
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, WholeAnswers(transport, self.loop))
        self._close_in(self._limits.head_s)
        excess = self._limiter.add(self)
        if excess is not None:
            excess.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._stop_timer()
        self._limiter.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request; its head must be complete in time."""
        super().data_received(data)
        if self.conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY):
            self._stop_timer()
            self._limiter.begin(self)
        elif self._closing is None:
            self._close_in(self._limits.head_s)

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn limits the time."""
        self._stop_timer()
        self._limiter.end(self, had_key=self.scope.get("state", {}).get("caller") is not None)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for the reader of an answer, for a limited time."""
        super().pause_writing()
        self._close_in(self._limits.reader_s)

    def resume_writing(self) -> None:
        """Stop the timer: the client reads again."""
        self._stop_timer()
        super().resume_writing()

    def _close_in(self, seconds: float) -> None:
        self._stop_timer()
        self._closing = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None


def raise_open_files_limit() -> int:
    """Raise the limit of open files as far as allowed, and return the maximum number of connections.

    That is half of it: the database needs some, and so do connections accepted before others are closed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 4 * MAX_CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


_MAX_BODY_BYTES: Final = 64 * 2**20
_GZIP: Final = 16 + zlib.MAX_WBITS
"""zlib's mode for gzip streams."""


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield a body; TimeoutError if its next piece doesn't arrive in time."""
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(STALL_LIMIT_S):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise TimeoutError(f"the body's next part did not arrive within {STALL_LIMIT_S:g} s") from None
        yield piece


async def json_body(request: Request) -> Any:
    """Read a JSON body; RefusedError: 413 too big, 415 unknown encoding, 400 invalid JSON."""
    body_decoder = decoder(request.headers.get("content-encoding", ""))
    body = bytearray()
    async for piece in pieces(request):
        body += body_decoder.decode(piece, _MAX_BODY_BYTES + 1 - len(body))
        if len(body) > _MAX_BODY_BYTES:
            raise RefusedError(f"the body is bigger than {_MAX_BODY_BYTES} bytes", status=413)
    body_decoder.end()
    try:
        value = json.loads(body)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # lone surrogates can't be stored
    except (ValueError, RecursionError):
        raise RefusedError("the body is not valid JSON", status=400) from None
    return value


class PlainBody:
    """An uncompressed body."""

    def decode(self, encoded: bytes, room: int) -> bytes:
        """Decode a piece of the body, to at most `room` bytes if it is compressed."""
        return encoded

    def end(self) -> None:
        """Raise RefusedError (400) for a truncated body."""


class GzipBody(PlainBody):
    """A gzip body, as wandb's client sends streams if the server announces FILESTREAM_GZIP."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)

    def decode(self, encoded: bytes, room: int) -> bytes:
        """Decompress a piece to at most `room` bytes: one megabyte may expand to a thousand."""
        try:
            decoded = self._stream.decompress(encoded, room)
        except zlib.error:
            raise _invalid_gzip() from None
        if self._stream.unused_data:  # data after its end
            raise _invalid_gzip()
        return decoded

    def end(self) -> None:
        """Raise RefusedError (400) for a truncated body."""
        if not self._stream.eof:
            raise _invalid_gzip()


def decoder(encoding: str) -> PlainBody:
    """Return the decoder of a Content-Encoding; RefusedError (415) for an unknown one."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return PlainBody()
    if name in ("gzip", "x-gzip"):
        return GzipBody()
    raise RefusedError(f"the body's Content-Encoding {encoding[:40]!r}: only gzip is supported", status=415)


def _invalid_gzip() -> RefusedError:
    return RefusedError("the body is not valid gzip, as its Content-Encoding says", status=400)


def text_in(body: Any, name: str) -> str:
    """Return a string of a JSON body; RefusedError if it is missing."""
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str):
        raise RefusedError(f"the body must be an object with a string {name!r}", status=400)
    return value


def texts_in(body: Any, name: str) -> frozenset[str]:
    """Return a list of strings of a JSON body, empty if it is missing; RefusedError for anything else."""
    value = body.get(name, []) if isinstance(body, dict) else None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RefusedError(f"{name} must be a list of strings", status=400)
    return frozenset(value)
