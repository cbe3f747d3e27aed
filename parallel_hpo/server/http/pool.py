"""The endpoints of pools: permissions, and which answers wait for the disk.

The sweep's own key and the master key may use all, a node's key `exchange` and `leave` for its own epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import POOL, Exchange, Join, NewPool, NodeLost, as_json, read
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.http.access import caller_of, expect_supervisor
from parallel_hpo.server.http.connections import json_body, text_in
from parallel_hpo.server.services import pool
from parallel_hpo.server.services.pool import PoolEndedError
from parallel_hpo.server.values import RefusedError

_MAX_DIGITS: Final = 18
Message = TypeVar("Message")
InThread = Callable[..., Awaitable[Any]]
"""Runs a function in the database's thread."""


def pool_routes(
    app: AppContext, in_thread: InThread, wait_for_disk: Callable[[], Awaitable[None]]
) -> list[Route]:
    """Return the routes; `wait_for_disk` returns once all commits are on the disk."""
    handlers = _PoolHandlers(app, in_thread, wait_for_disk)
    posts = {
        "": handlers.open_pool,
        "/join": handlers.join,
        "/exchange": handlers.exchange,
        "/leave": handlers.leave,
        "/stop": handlers.stop,
        "/divide": handlers.divide,
        "/lost": handlers.lost,
    }
    return [
        *(Route(f"{POOL}{verb}", handler, methods=["POST"]) for verb, handler in posts.items()),
        Route(POOL, handlers.facts),
        Route(f"{POOL}/news", handlers.news),
        Route(f"{POOL}/events", handlers.events),
    ]


class _PoolHandlers:
    """One method per route."""

    def __init__(
        self, app: AppContext, in_thread: InThread, wait_for_disk: Callable[[], Awaitable[None]]
    ) -> None:
        self._app = app
        self._in_thread = in_thread
        self._wait_for_disk = wait_for_disk

    async def open_pool(self, request: Request) -> Response:
        sweep = _for_coordinator(request)
        new_pool = await _message(NewPool, request)
        return await self._lasting(pool.open_pool, sweep, new_pool)

    async def facts(self, request: Request) -> Response:
        sweep = _for_sweep(request)
        text = await asyncio.to_thread(pool.facts, self._app, sweep)  # the answer may be large
        return Response(text, media_type="application/json")

    async def join(self, request: Request) -> Response:
        sweep = _for_coordinator(request)
        join = await _message(Join, request)
        try:
            return await self._lasting(pool.join, sweep, join)
        except PoolEndedError as late:
            return JSONResponse({"error": str(late), "ends": as_json(late.ends)}, late.status)

    async def exchange(self, request: Request) -> Response:
        sweep = _for_sweep(request)
        report = await _message(Exchange, request)
        _expect_epoch(request, report.epoch)
        granted, must_last = await self._in_thread(pool.exchange, self._app, sweep, report)
        if must_last:
            await self._wait_for_disk()
        return JSONResponse(as_json(granted))

    async def leave(self, request: Request) -> Response:
        sweep = _for_sweep(request)
        body = await json_body(request)
        reason, epoch = text_in(body, "reason"), body.get("epoch")
        if not isinstance(epoch, int):
            raise RefusedError("the body must be an object with a whole number 'epoch'", status=400)
        _expect_epoch(request, epoch)
        return await self._lasting(pool.leave, sweep, epoch, reason)

    async def stop(self, request: Request) -> Response:
        sweep = _for_coordinator(request)
        return await self._lasting(pool.stop, sweep, await _message(SweepEnd, request))

    async def divide(self, request: Request) -> Response:
        sweep = _for_coordinator(request)
        return await self._lasting(pool.divide, sweep, await _message(SweepEnd, request))

    async def lost(self, request: Request) -> Response:
        sweep = _for_coordinator(request)
        return await self._lasting(pool.lose, sweep, await _message(NodeLost, request))

    async def news(self, request: Request) -> Response:
        sweep = _for_coordinator(request)
        event, notice = (_number(request, name) for name in ("event", "notice"))
        return JSONResponse(as_json(await self._in_thread(pool.news, self._app, sweep, event, notice)))

    async def events(self, request: Request) -> Response:
        sweep = _for_sweep(request)
        found = await asyncio.to_thread(pool.watch, self._app, sweep, _number(request, "event"))
        return JSONResponse(as_json(found))

    async def _lasting(self, work: Callable[..., Any], *args: Any) -> Response:
        """Run `work` and answer once its commit is on the disk."""
        result = await self._in_thread(work, self._app, *args)
        await self._wait_for_disk()
        return JSONResponse({} if result is None else as_json(result))


def _for_sweep(request: Request) -> str:
    """Return the sweep of a request that nodes may send too."""
    sweep: str = request.path_params["sweep"]
    expect_supervisor(caller_of(request), sweep)
    return sweep


def _for_coordinator(request: Request) -> str:
    """Return the sweep of a request that no node may send."""
    sweep = _for_sweep(request)
    if caller_of(request).node is not None:
        raise RefusedError("this endpoint needs the sweep's own key, or the master key", status=403)
    return sweep


def _expect_epoch(request: Request, epoch: int) -> None:
    node = caller_of(request).node
    if node not in (None, epoch):
        raise RefusedError(f"the key belongs to epoch {node}, not to {epoch}", status=403)


async def _message(kind: type[Message], request: Request) -> Message:
    try:
        return read(kind, await json_body(request))
    except ValueError as error:
        raise RefusedError(f"the body: {error}", status=400) from None


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise RefusedError(f"{name}={text[:40]!r} in the address: a whole number of 0 or more", status=400)
    return int(text)
