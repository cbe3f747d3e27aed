"""The threads that execute GraphQL: queries in two, mutations in the database's, search models in their own.

The executor is made after the server has started: its libraries and schema are a third of the start, and
pages need neither. An ask of a model may take 20 s, and blocks no other request and no other process:

    a request ─▶ executed ─▶ its answer
                    └─▶ AskFirstError: ask, one at a time ─▶ executed with the suggestion ─▶ its answer
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from parallel_hpo.server.context import AppContext, Caller
from parallel_hpo.server.values import GraphQLRequest

if TYPE_CHECKING:
    from parallel_hpo.server.graphql.execute import Executor
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from parallel_hpo.server.engines import AskFirstError

_PREPARE_AFTER_S: Final = 0.2
"""Delay of the executor's preparation in seconds: at first the parent process needs the processor."""
_READERS: Final = 2
"""Number of concurrent queries: a short one need not wait, and few compete with heartbeats."""
MakeExecutor = Callable[[], "Executor"]

Result = TypeVar("Result")


class ModelThread:
    """The thread in which models are asked."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self._turn = asyncio.Lock()

    async def answer(self, app: AppContext, execute: Callable[[AppContext], Awaitable[Result]]) -> Result:
        """Return the result of `execute`, after asking a model if it needs one."""
        try:
            return await execute(app)
        except AskFirstError as first:
            sweep_id = first.sweep_id
        async with self._turn:  # else concurrent requests would get the same run
            while True:
                asked = await self._ask(app, sweep_id)
                with suppress(AskFirstError):  # another server process issued a run first
                    return await execute(asked)

    async def _ask(self, app: AppContext, sweep_id: str) -> AppContext:
        loop, engines = asyncio.get_running_loop(), app.engines
        asked = await loop.run_in_executor(self._thread, engines.ask, app.database, sweep_id)
        return replace(app, asked=asked)

    def close(self) -> None:
        """Cancel waiting asks, without waiting for one in progress."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def make_executor() -> Executor:
    """Import the libraries and build the schema."""
    from parallel_hpo.server.graphql.execute import Executor

    return Executor()


class ExecutorThreads:
    """The executor and its threads, for all requests of one event loop."""

    def __init__(self, app: AppContext, writer: ThreadPoolExecutor, make: MakeExecutor) -> None:
        self._app = app
        self._writer = writer
        self._make = make
        self._made: Executor | None = None
        self._turn = asyncio.Lock()
        self._readers = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="queries")
        self._asking = ModelThread()

    def close(self) -> None:
        """Cancel waiting work, without waiting for work in progress."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._asking.close()

    async def prepare(self) -> None:
        """Make the executor soon after the start, before the first request."""
        await asyncio.sleep(_PREPARE_AFTER_S)
        with suppress(Exception):  # an edge: the first request gets the error
            await self._executor()

    async def answer(self, caller: Caller, wanted: GraphQLRequest) -> tuple[Response, bool]:
        """Return the response, and whether the transaction must be on the disk first."""
        executor = await self._executor()

        def execute(
            app: AppContext,
        ) -> tuple[Response, bool]:  # with its JSON, which is slow for a big answer
            answer = executor.execute(app, caller, wanted)
            return JSONResponse({"data": answer.data}), answer.must_last

        if not executor.knows(wanted):
            await asyncio.to_thread(executor.only_reads, wanted)
        if executor.only_reads(wanted):
            return await run_in(self._readers, execute, self._app)
        return await self._asking.answer(self._app, lambda app: run_in(self._writer, execute, app))

    async def _executor(self) -> Executor:
        async with self._turn:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
            return self._made


async def run_in(threads: ThreadPoolExecutor, work: Callable[..., Result], *args: Any) -> Result:
    """Run `work` in one of the threads and return its result."""
    return await asyncio.get_running_loop().run_in_executor(threads, work, *args)
