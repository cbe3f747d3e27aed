from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from parallel_hpo.server.http.connections import ConnectionLimiter, ConnectionLimits, TimeoutProtocol

GET: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG: Final = 50 * 2**20
"""More than all buffers between two processes hold."""
SOON_S: Final = 10.0


async def _app(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(50):
        await send({"type": "http.response.body", "body": bytes(LONG // 50), "more_body": True})
    await send({"type": "http.response.body"})


@dataclass(frozen=True)
class Connected:
    """A client's connection, and all that the server has."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: ServerState

    @property
    def is_there(self) -> bool:
        """Whether the server has it still."""
        return bool(self.state.connections)


@asynccontextmanager
async def connected(patience: ConnectionLimits) -> AsyncIterator[Connected]:
    """Connect to a server of such patience, whose answers are long."""
    config, state = uvicorn.Config(_app, log_config=None), ServerState()
    lobby: ConnectionLimiter[TimeoutProtocol] = ConnectionLimiter(100)
    accept = partial(
        TimeoutProtocol, lobby=lobby, patience=patience, config=config, server_state=state, app_state={}
    )
    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield Connected(reader, writer, state)
    finally:
        writer.transport.abort()
        server.close()
        await asyncio.gather(*state.tasks)


async def _closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), SOON_S) == b""
    except ConnectionResetError:
        return True


def test_who_sends_no_request_or_half_of_one_is_not_waited_for_for_ever() -> None:
    async def wait(sent: bytes) -> bool:
        async with connected(ConnectionLimits(head_s=0.1)) as client:
            client.writer.write(sent)
            return await _closed(client.reader)

    assert asyncio.run(wait(b""))
    assert asyncio.run(wait(GET[:10]))


def test_who_reads_on_gets_all_of_an_answer() -> None:
    async def read() -> int:
        async with connected(ConnectionLimits(head_s=0.1, reader_s=SOON_S)) as client:
            client.writer.write(GET)
            await client.reader.readuntil(b"\r\n\r\n")
            length = 0
            while length < LONG:
                length += len(await asyncio.wait_for(client.reader.read(2**20), SOON_S))
            return length

    assert asyncio.run(read()) >= LONG


def test_who_does_not_read_an_answer_is_not_waited_for_for_ever() -> None:
    async def wait() -> None:
        async with connected(ConnectionLimits(reader_s=0.1)) as client:
            client.writer.write(GET)
            async with asyncio.timeout(SOON_S):
                while not client.is_there:
                    await asyncio.sleep(0.01)
                while client.is_there:
                    await asyncio.sleep(0.01)

    asyncio.run(wait())


def full(*, strangers: str = "", known: str = "", busy: str = "") -> ConnectionLimiter[str]:
    """A lobby in which there is no more room."""
    lobby: ConnectionLimiter[str] = ConnectionLimiter(len(strangers + known + busy))
    for guest in strangers + known + busy:
        assert lobby.enter(guest) is None
    for guest in known + busy:
        lobby.begin(guest)
    for guest in known:
        lobby.end(guest, had_key=True)
    return lobby


def test_as_long_as_there_is_room_nobody_has_to_go() -> None:
    lobby: ConnectionLimiter[str] = ConnectionLimiter(2)
    assert [lobby.enter(guest) for guest in "ab"] == [None, None]
    lobby.leave("a")
    assert lobby.enter("c") is None


def test_the_stranger_that_came_first_has_to_go() -> None:
    lobby = full(strangers="ab", known="k", busy="r")
    assert [lobby.enter(guest) for guest in "xyz"] == ["a", "b", "x"]


def test_without_strangers_the_known_one_goes_that_has_been_silent_longest() -> None:
    lobby = full(known="kl", busy="r")
    lobby.begin("k")
    lobby.end("k", had_key=True)
    assert lobby.enter("x") == "l"


def test_where_all_are_busy_the_newest_one_goes() -> None:
    assert full(busy="rs").enter("x") == "x"


def test_a_request_without_a_key_makes_nobody_known() -> None:
    lobby = full(strangers="a", known="k")
    lobby.begin("a")
    lobby.end("a", had_key=False)
    assert lobby.enter("x") == "a"
