"""What may be changed from a page: a sweep's state, with W&B's meanings, a worker's, and a run's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from parallel_hpo.server.pages import answers, ledgers
from parallel_hpo.server.pages.run_data import run_at
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.services import runs, supervision
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.world import VIEWER, World

Change = Callable[..., Awaitable[Any]]
"""Does a piece of work, given its arguments after the world, in the database's own thread."""

STATES: Final = {"pause": "PAUSED", "resume": "RUNNING", "stop": "FINISHED", "cancel": "CANCELED"}
DRAIN: Final = "drain"
_MOST_BYTES: Final = 1000
_NO_WORKER: Final = -1


class Acts:
    """One method for each kind of thing that is acted on."""

    def __init__(self, world: World, change: Change) -> None:
        self._world = world
        self._change = change

    async def on_sweep(self, request: Request) -> Response:
        """Set a sweep's state, or drain a worker of it; RefusedError for what can't be now."""
        names, act = request.path_params, await _act_in(request, (*STATES, DRAIN))
        at = SweepAt(names["entity"], names["project"], names["sweep"])
        if act.do == DRAIN:
            await asyncio.to_thread(ledgers.drain, self._world, at, act.worker)
            return answers.guarded(JSONResponse({"drain": "told"}))
        state = await self._change(supervision.set_state, at, STATES[act.do])
        return answers.guarded(JSONResponse({"state": state}))

    async def on_run(self, request: Request) -> Response:
        """Ask a run to stop; RefusedError (404) where there is none."""
        names = request.path_params
        await _act_in(request, ("stop",))
        path = RunPath(names["entity"], names["project"], names["run"])
        await self._change(_stop, path)
        return answers.guarded(JSONResponse({"stop": "asked"}))


def _stop(world: World, path: RunPath) -> None:
    with world.database.read() as transaction:
        run = run_at(transaction, path)
    runs.request_stop(world, run.id)


@dataclass(frozen=True, slots=True)
class _Act:
    do: str
    worker: int
    """Which one is to be drained."""


async def _act_in(request: Request, allowed: Collection[str]) -> _Act:
    """Return what is to be done; RefusedError: 403 for who came with a key, 400 for what isn't allowed."""
    if request.state.caller is None or request.state.caller.label != VIEWER:
        raise RefusedError("this is for pages; programs have the API of W&B's client", status=403)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise RefusedError("the body is too big", status=413)
    try:
        asked = json.loads(body)
        do, worker = asked["do"], asked.get("worker", _NO_WORKER)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        do = worker = None
    if do not in allowed or not isinstance(worker, int):
        raise RefusedError(
            f'the body must be an object whose "do" is one of {", ".join(allowed)}', status=400
        )
    return _Act(do, worker)
