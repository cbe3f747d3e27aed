"""Slow, silent or too many connections, and answers that are sent in one write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from parallel_hpo.server.http.connections import (
    WHOLE_BYTES,
    ConnectionLimiter,
    ConnectionLimits,
    TimeoutProtocol,
    WholeAnswers,
)

pytestmark = pytest.mark.anyio

GET: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG: Final = 50 * 2**20
"""More than all buffers between two processes hold."""
SOON_S: Final = 10.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _app(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(50):
        await send({"type": "http.response.body", "body": bytes(LONG // 50), "more_body": True})
    await send({"type": "http.response.body"})


@dataclass(frozen=True)
class Connected:
    """A client's connection, and the server's state."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: ServerState
    limiter: ConnectionLimiter[TimeoutProtocol]

    @property
    def is_there(self) -> bool:
        """Whether the server still has the connection."""
        return bool(self.state.connections)

    async def ask(self) -> None:
        """Send a request, and read the head of its answer."""
        self.writer.write(GET)
        await self.reader.readuntil(b"\r\n\r\n")

    async def wait_until_gone(self) -> None:
        """Wait until the server has closed it."""
        async with asyncio.timeout(SOON_S):
            while self.is_there:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def connected(limits: ConnectionLimits) -> AsyncIterator[Connected]:
    """Connect to a server with these limits, whose answers are long."""
    config, state = uvicorn.Config(_app, log_config=None), ServerState()
    limiter: ConnectionLimiter[TimeoutProtocol] = ConnectionLimiter(1)
    accept = partial(
        TimeoutProtocol, limiter=limiter, limits=limits, config=config, server_state=state, app_state={}
    )
    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield Connected(reader, writer, state, limiter)
    finally:
        writer.transport.abort()
        server.close()
        await asyncio.gather(*state.tasks)


@pytest.mark.parametrize("sent", [b"", GET[:10]])
async def test_a_connection_without_a_complete_request_is_closed(sent: bytes) -> None:
    async with connected(ConnectionLimits(head_s=0.1)) as client:
        client.writer.write(sent)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(client.reader.read(), SOON_S) == b""


async def test_a_client_that_keeps_reading_gets_the_whole_answer() -> None:
    async with connected(ConnectionLimits(head_s=0.1, reader_s=SOON_S)) as client:
        await client.ask()
        await client.reader.readexactly(LONG)


async def test_a_client_that_does_not_read_its_answer_is_disconnected() -> None:
    async with connected(ConnectionLimits(reader_s=0.1)) as client:
        await client.ask()
        await client.wait_until_gone()


async def test_a_client_that_resumes_reading_keeps_its_connection() -> None:
    async with connected(ConnectionLimits(reader_s=0.05)) as client:
        client.writer.write(GET[:1])
        while not client.is_there:
            await asyncio.sleep(0.01)
        (protocol,) = client.state.connections
        protocol.pause_writing()
        protocol.resume_writing()
        await asyncio.sleep(0.1)
        assert client.is_there


async def test_a_client_that_disconnects_during_an_answer_frees_its_place() -> None:
    async with connected(ConnectionLimits()) as client:
        await client.ask()
        (protocol,) = client.state.connections
        client.writer.transport.abort()
        await client.wait_until_gone()
        assert client.limiter.add(cast(TimeoutProtocol, protocol)) is None


Limiter = ConnectionLimiter[str]


def full(*, anonymous: str = "", authenticated: str = "", busy: str = "") -> Limiter:
    """Return a limiter at its maximum."""
    limiter = Limiter(len(anonymous + authenticated + busy))
    for connection in anonymous + authenticated + busy:
        assert limiter.add(connection) is None
    for connection in authenticated + busy:
        limiter.begin(connection)
    for connection in authenticated:
        limiter.end(connection, had_key=True)
    return limiter


def after_request(limiter: Limiter, connection: str, *, had_key: bool) -> Limiter:
    limiter.begin(connection)
    limiter.end(connection, had_key=had_key)
    return limiter


CLOSED_AT_LIMIT = {
    "the oldest anonymous one": (full(anonymous="ab", authenticated="k", busy="r"), "abx"),
    "without anonymous ones the authenticated one that is idle longest": (
        after_request(full(authenticated="kl", busy="r"), "k", had_key=True),
        "lxy",
    ),
    "the newest one if all are busy": (full(busy="rs"), "xyz"),
    "one whose request had no key": (
        after_request(full(anonymous="a", authenticated="k"), "a", had_key=False),
        "axy",
    ),
}


@pytest.mark.parametrize(("limiter", "gone"), CLOSED_AT_LIMIT.values(), ids=CLOSED_AT_LIMIT)
def test_the_connection_to_close_at_the_limit_is_chosen_by_priority(limiter: Limiter, gone: str) -> None:
    assert [limiter.add(connection) for connection in "xyz"] == list(gone)


def test_no_connection_is_closed_below_the_limit() -> None:
    limiter = Limiter(2)
    assert [limiter.add(connection) for connection in "ab"] == [None, None]
    limiter.remove("a")
    assert limiter.add("c") is None


class Written(asyncio.Transport):
    """A transport that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.parts.append(bytes(data))

    def close(self) -> None:
        self.parts.append(b"closed")


async def test_a_short_answer_is_sent_in_one_write_and_a_large_one_is_not_held_back() -> None:
    written = Written()
    transport = WholeAnswers(written, asyncio.get_running_loop())
    for part in (b"head", b"body"):
        transport.write(part)
    await asyncio.sleep(0)
    transport.write(bytes(WHOLE_BYTES + 1))
    assert len(written.parts) == 2
    for part in (b"head", b"body"):
        transport.write(part)
    transport.close()
    assert written.parts == [b"headbody", bytes(WHOLE_BYTES + 1), b"headbody", b"closed"]
