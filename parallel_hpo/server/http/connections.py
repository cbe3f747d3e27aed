"""Connections that keep nobody else out: what stays silent, or doesn't read, is closed in time.

Uvicorn closes a connection that is silent after an answer; one that never sends a whole
request, or never reads its answer, it would keep for ever. Who may keep one open without a request on it:

    enters ─▶ stranger ─▶ busy ─▶ known, where its request had a key ─▶ busy ─▶ …
                  ▲         └──▶ stranger again, where it had none

Where there are too many, one has to go: the stranger that came first, else the known one
that has been silent longest. So nobody keeps out whoever has a key by only connecting.

Requests' bodies: they come within a time, are bounded, packed or not, and are what they should be.
"""

from __future__ import annotations

import asyncio
import json
import resource
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import h11
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from parallel_hpo.server.values import RefusedError

Guest = TypeVar("Guest")

STALL_LIMIT_S: Final = 60.0
"""How long a body, or the reader of an answer, may keep us waiting for its next piece."""
MOST: Final = 10_000
"""More connections than this are of no use to one process."""


class ConnectionLimiter(Generic[Guest]):
    """The open connections, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Dicts keep the order in which their keys came.
        self._strangers: dict[Guest, None] = {}
        self._known: dict[Guest, None] = {}
        self._busy: set[Guest] = set()

    def enter(self, guest: Guest) -> Guest | None:
        """Let one in, and return the one that has to go for it, if any."""
        self._strangers[guest] = None
        if len(self._strangers) + len(self._known) + len(self._busy) <= self._most:
            return None
        leaving = self._to_go(guest)
        self.leave(leaving)
        return leaving

    def _to_go(self, newest: Guest) -> Guest:
        silent = (guest for guests in (self._strangers, self._known) for guest in guests)
        return next((guest for guest in silent if guest is not newest), newest)

    def begin(self, guest: Guest) -> None:
        """It has sent a request."""
        self.leave(guest)
        self._busy.add(guest)

    def end(self, guest: Guest, *, had_key: bool) -> None:
        """Its request is answered."""
        self.leave(guest)
        (self._known if had_key else self._strangers)[guest] = None

    def leave(self, guest: Guest) -> None:
        """It is closed, or about to be."""
        self._strangers.pop(guest, None)
        self._known.pop(guest, None)
        self._busy.discard(guest)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a connection is waited for."""

    head_s: float = 10.0
    """Until the first line and the headers of a request are whole; clients send them at once."""
    reader_s: float = STALL_LIMIT_S


class TimeoutProtocol(H11Protocol):
    """Uvicorn's protocol, whose patience ends."""

    def __init__(
        self,
        *,
        lobby: ConnectionLimiter[TimeoutProtocol],
        patience: ConnectionLimits = ConnectionLimits(),
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._lobby = lobby
        self._patience = patience
        self._closing: asyncio.TimerHandle | None = None
        """Closes the connection, unless it does meanwhile what it is waited for."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, in the place of another one where there are too many."""
        super().connection_made(transport)
        self._close_in(self._patience.head_s)
        leaving = self._lobby.enter(self)
        if leaving is not None:
            leaving.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stay()
        self._lobby.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some of a request; its head must be whole in time, and what comes after an answer is none."""
        super().data_received(data)
        if self.conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY):
            self._stay()
            self._lobby.begin(self)
        elif self._closing is None:
            self._close_in(self._patience.head_s)

    def on_response_complete(self) -> None:
        """Wait for the next request, as long as uvicorn says."""
        self._stay()
        self._lobby.end(self, had_key=self.scope.get("state", {}).get("caller") is not None)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for the reader of an answer, but not for ever."""
        super().pause_writing()
        self._close_in(self._patience.reader_s)

    def resume_writing(self) -> None:
        """It reads on."""
        self._stay()
        super().resume_writing()

    def _close_in(self, seconds: float) -> None:
        self._stay()
        self._closing = self.loop.call_later(seconds, self.transport.abort)

    def _stay(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None


def make_room_for_connections() -> int:
    """Let this process open as many files as it may, and return how many of them may be connections.

    Half of them: the database, and what is accepted while others are being closed, need some too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MOST if hard == resource.RLIM_INFINITY else min(hard, 4 * MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 2)


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


class PlainBody:
    """A body that is sent as it is."""

    def piece(self, packed: bytes, room: int) -> bytes:
        """Return what a piece of the body stands for, of at most `room` bytes where it is packed."""
        return packed

    def end(self) -> None:
        """Refuse (400) a body that ends too early."""


class GzipBody(PlainBody):
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


def unpacker(encoding: str) -> PlainBody:
    """Return what undoes a Content-Encoding; RefusedError (415) where we can't."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return PlainBody()
    if name in ("gzip", "x-gzip"):
        return GzipBody()
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
