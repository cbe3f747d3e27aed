"""What may be changed from a page: a sweep's state, with W&B's meanings, and whether a run is to stop."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from parallel_hpo.server.pages import answers
from parallel_hpo.server.pages.run_data import run_at
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.services import runs, supervision
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.world import VIEWER, World

Change = Callable[..., Awaitable[Any]]
"""Does a piece of work, given its arguments after the world, in the database's own thread."""

STATES: Final = {"pause": "PAUSED", "resume": "RUNNING", "stop": "FINISHED", "cancel": "CANCELED"}
_MOST_BYTES: Final = 1000


class Acts:
    """One method for each kind of thing that is acted on."""

    def __init__(self, world: World, change: Change) -> None:
        self._world = world
        self._change = change

    async def on_sweep(self, request: Request) -> Response:
        """Set a sweep's state; RefusedError for one that it can't have now."""
        names, act = request.path_params, await _act_in(request, STATES)
        at = SweepAt(names["entity"], names["project"], names["sweep"])
        state = await self._change(supervision.set_state, at, STATES[act])
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


async def _act_in(request: Request, allowed: Any) -> str:
    """Return what is to be done; RefusedError: 403 for who came with a key, 400 for what isn't allowed."""
    if request.state.caller is None or request.state.caller.label != VIEWER:
        raise RefusedError("this is for pages; programs have the API of W&B's client", status=403)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise RefusedError("the body is too big", status=413)
    try:
        act = json.loads(body)["do"]
    except (ValueError, KeyError, TypeError, RecursionError):
        act = None
    if not isinstance(act, str) or act not in allowed:
        raise RefusedError(
            f'the body must be an object whose "do" is one of {", ".join(allowed)}', status=400
        )
    return act
