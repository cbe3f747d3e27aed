"""Executes GraphQL: queries beside all else, what changes something in the database's own thread.

What executes it is made once the server answers: its libraries and its schema are a third of a start, and
whoever asks for a page needs none of them. Models of the search are asked in a thread of their own:

    a request ─▶ executed ─▶ its answer
                    └─▶ AskFirstError: ask, in turn ─▶ executed with what was said ─▶ its answer

All other requests, and other processes' writes, go on meanwhile: an ask may take 20 s.
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

_BEGUN_AFTER_S: Final = 0.2
"""Until then whoever started the server wants the processor."""
_READERS: Final = 2
"""Queries at once: a short one waits for no long one, and few share the interpreter with heartbeats."""
MakeExecutor = Callable[[], "Executor"]

Result = TypeVar("Result")


class ModelThread:
    """The thread in which models are asked."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self._turn = asyncio.Lock()

    async def answer(self, world: AppContext, execute: Callable[[AppContext], Awaitable[Result]]) -> Result:
        """Return what `execute` does, once a model is asked where it needs one."""
        try:
            return await execute(world)
        except AskFirstError as first:
            sweep_id = first.sweep_id
        async with self._turn:  # else all who ask at once would be told the same run
            while True:
                asked = await self._ask(world, sweep_id)
                with suppress(AskFirstError):  # an agent of another server process was faster
                    return await execute(asked)

    async def _ask(self, world: AppContext, sweep_id: str) -> AppContext:
        loop, engines = asyncio.get_running_loop(), world.engines
        asked = await loop.run_in_executor(self._thread, engines.ask, world.database, sweep_id)
        return replace(world, asked=asked)

    def close(self) -> None:
        """Cancel what waits; an ask in progress is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def make_executor() -> Executor:
    """Load the libraries and the schema."""
    from parallel_hpo.server.graphql.execute import Executor

    return Executor()


class ExecutorThreads:
    """The executor and its threads, for all requests of one event loop."""

    def __init__(self, world: AppContext, writer: ThreadPoolExecutor, make: MakeExecutor) -> None:
        self._world = world
        self._writer = writer
        self._make = make
        self._made: Executor | None = None
        self._turn = asyncio.Lock()
        self._readers = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="queries")
        self._asking = ModelThread()

    def close(self) -> None:
        """Wait for nobody."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._asking.close()

    async def prepare(self) -> None:
        """Make the executor in good time, so that hardly anybody waits for it."""
        await asyncio.sleep(_BEGUN_AFTER_S)
        with suppress(Exception):  # an edge: whoever asks is told
            await self._executor()

    async def answer(self, caller: Caller, wanted: GraphQLRequest) -> tuple[Response, bool]:
        """Return an answer, and whether it must last."""
        executor = await self._executor()

        def execute(
            world: AppContext,
        ) -> tuple[Response, bool]:  # into JSON too: that takes a while for a big one
            answer = executor.execute(world, caller, wanted)
            return JSONResponse({"data": answer.data}), answer.must_last

        if not executor.knows(wanted):
            await asyncio.to_thread(executor.only_reads, wanted)
        if executor.only_reads(wanted):
            return await run_in(self._readers, execute, self._world)
        return await self._asking.answer(self._world, lambda world: run_in(self._writer, execute, world))

    async def _executor(self) -> Executor:
        async with self._turn:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
            return self._made


async def run_in(threads: ThreadPoolExecutor, work: Callable[..., Result], *args: Any) -> Result:
    """Return what `work` returns in one of the threads."""
    return await asyncio.get_running_loop().run_in_executor(threads, work, *args)
