"""The server's application in this process, called over HTTP without a port."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import unquote

import httpx

from parallel_hpo.server.http.app import make_app
from tests.server.server_logic import MASTER_KEY, Services

URL = "http://127.0.0.1:1234"
REGISTER = 'mutation A($s: String!) { createAgent(input: {host: "h", sweep: $s}) { agent { id } } }'
BEAT = 'mutation B($a: ID!) { agentHeartbeat(input: {id: $a, runState: "{}"}) { commands } }'


class Web:
    """A client with a key, and the application that it talks to."""

    def __init__(
        self, services: Services, key: str | None = MASTER_KEY, host: str = "127.0.0.1", **options: Any
    ) -> None:
        app = make_app(services.world, host=host, **options)
        self._app = app
        self._key = key
        self._runner = asyncio.Runner()
        self._lifespan = app.router.lifespan_context(app)
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url=URL,
            auth=None if key is None else ("api", key),
            trust_env=False,
        )

    def __enter__(self) -> Web:
        self._runner.run(_awaited(self._lifespan.__aenter__()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.run(self._client.aclose())
        self._runner.run(_awaited(self._lifespan.__aexit__(kind, error, traceback)))
        self._runner.close()

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.send("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.send("POST", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.send("PUT", path, **options)

    def forget_cookies(self) -> None:
        """Act as another browser."""
        self._client.cookies.clear()

    def begin(self, query: str, **variables: Any) -> asyncio.Task[httpx.Response]:
        """Send a GraphQL request without waiting for its answer."""
        body = {"query": query, "variables": variables}
        return self._runner.get_loop().create_task(self._client.post("/graphql", json=body))

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """Run the application until the awaitable is done."""
        return self._runner.run(_awaited(awaitable))

    def ask(self, query: str, **variables: Any) -> Any:
        """Send a GraphQL request as the Public API does, and return the answer's body."""
        body = {"query": query, "variables": variables, "operationName": ""}
        return self.post("/graphql", json=body).json()

    def refused(self, query: str, **variables: Any) -> str:
        """Send a GraphQL request that must be refused, and return why it was."""
        (error,) = self.ask(query, **variables)["errors"]
        return str(error["message"])

    def done(self, query: str, **variables: Any) -> Any:
        """Send a GraphQL request that must succeed, and return the answer's data."""
        answer = self.ask(query, **variables)
        assert "errors" not in answer, answer
        return answer["data"]

    def answers(self, *requests: tuple[str, str, bytes]) -> list[tuple[int, str]]:
        """Send methods, addresses and bodies unchanged in order; return statuses and bodies."""

        async def answer_all() -> list[tuple[int, str]]:
            return [await self._answer(*request) for request in requests]

        return self._runner.run(answer_all())

    async def _answer(self, method: str, address: str, body: bytes) -> tuple[int, str]:
        """Call the application as a server does, which costs a quarter of a client's request."""
        path, _, query = address.partition("?")
        token = b64encode(f"api:{self._key}".encode())
        headers = [(b"host", b"127.0.0.1:1234"), (b"content-length", str(len(body)).encode())]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [*headers, (b"authorization", b"Basic " + token)],
            "client": ("127.0.0.1", 123),
            "server": ("127.0.0.1", 1234),
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        with suppress(Exception):  # its answer reports the error
            await self._app(scope, receive, send)
        start, *rest = sent
        return start["status"], b"".join(part.get("body", b"") for part in rest).decode(errors="replace")


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
