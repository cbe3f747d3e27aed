"""Asks models of the search in a thread of their own, for requests that need one to choose a run.

    a request ─▶ executed ─▶ its answer
                    └─▶ AskFirstError: ask, in turn ─▶ executed with what was said ─▶ its answer

All other requests, and other processes' writes, go on meanwhile: an ask may take 20 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from parallel_hpo.server.engines.cache import AskFirstError
from parallel_hpo.server.world import World

Result = TypeVar("Result")


class Asking:
    """The thread in which models are asked."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self._turn = asyncio.Lock()

    async def answer(self, world: World, execute: Callable[[World], Awaitable[Result]]) -> Result:
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

    async def _ask(self, world: World, sweep_id: str) -> World:
        loop, engines = asyncio.get_running_loop(), world.engines
        asked = await loop.run_in_executor(self._thread, engines.ask, world.database, sweep_id)
        return replace(world, asked=asked)

    def close(self) -> None:
        """Wait for nobody; an ask that is under way ends with its engine."""
        self._thread.shutdown(wait=False, cancel_futures=True)
