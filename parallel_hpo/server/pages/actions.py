"""Changes from a page: a sweep's state, a worker's drain, a run's stop; only from a page opened by a ticket.

    ticket ─▶ 303, with the login cookie and a one-time cookie (a minute, for /pages/token only)
    page ──▶ POST /pages/token ─▶ a token, once for each one-time cookie; kept in the page's sessionStorage
    page ──▶ POST /pages/act/…, with the token in a header, from its own Origin

Browsers send cookies to servers on other ports too, so a cookie proves nothing here. Only scripts of our own
origin have the token, and it is valid until this process ends.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from parallel_hpo.server import removal
from parallel_hpo.server.context import VIEWER, AppContext
from parallel_hpo.server.pages import answers, run_data
from parallel_hpo.server.pages.run_data import run_at
from parallel_hpo.server.pages.sweep_data import sweep_at
from parallel_hpo.server.rules.runs import OPEN
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.server.services import runs, supervision
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import projects, sweeps
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError

TOKEN_PATH: Final = "/pages/token"
ACT_PATH: Final = "/pages/act/"
HEADER: Final = "x-parallel-hpo-token"
_ONE_TIME_COOKIE_VALID_S: Final = 60.0
_MAX_TOKENS: Final = 1000
Value = TypeVar("Value")

Change = Callable[..., Awaitable[Any]]
"""Runs a function in the database's thread, with the context and then the given arguments."""

STATES: Final = {"pause": "PAUSED", "resume": "RUNNING", "stop": "FINISHED", "cancel": "CANCELED"}
DRAIN: Final = "drain"
SCALE: Final = "scale"
EDIT: Final = "edit"
DELETE: Final = "delete"
_MAX_LENGTHS: Final = {"name": 128, "notes": 10_000, "tags": 1000}
"""Maximum numbers of characters of the texts that a page may edit."""
_MAX_BODY_BYTES: Final = 50_000
_NO_WORKER: Final = -1
_ENDED: Final = (SweepState.FINISHED, SweepState.CANCELED)


class ActionTokens:
    """Action tokens of one server's pages."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._one_time: OrderedDict[str, float] = OrderedDict()
        """Unused one-time cookies, and when each was made."""
        self._tokens: OrderedDict[str, None] = OrderedDict()

    def offer(self, response: Response, cookie: str) -> None:
        """Set a one-time cookie with which the browser can request a token."""
        name = secrets.token_hex(16)
        _keep(self._one_time, name, self._clock())
        age_s = int(_ONE_TIME_COOKIE_VALID_S)
        response.set_cookie(
            _one_time_cookie(cookie), name, max_age=age_s, path=TOKEN_PATH, httponly=True, samesite="strict"
        )

    def take(self, scope: Scope, cookie: str) -> Response | None:
        """Answer a request for a token: a token, or 204 if the cookie is invalid; None for other requests."""
        if scope["method"] != "POST" or scope["path"] != TOKEN_PATH or not comes_from_own_page(scope):
            return None
        name = HTTPConnection(scope).cookies.get(_one_time_cookie(cookie), "")
        offered_at = self._one_time.pop(name, None)
        if offered_at is None or self._clock() - offered_at > _ONE_TIME_COOKIE_VALID_S:
            return answers.guarded(Response(status_code=204))
        token = secrets.token_hex(32)
        _keep(self._tokens, token, None)
        response = JSONResponse({"token": token})
        response.delete_cookie(_one_time_cookie(cookie), path=TOKEN_PATH)
        return answers.guarded(response)

    def may_act(self, scope: Scope) -> bool:
        """Return whether a request that changes something comes from a page that has a token."""
        if (
            scope["method"] != "POST"
            or not scope["path"].startswith(ACT_PATH)
            or not comes_from_own_page(scope)
        ):
            return False
        given = HTTPConnection(scope).headers.get(HEADER, "").encode(errors="replace")
        return any(hmac.compare_digest(token.encode(), given) for token in self._tokens)


def comes_from_own_page(scope: Scope) -> bool:
    """Return whether the request's Origin is this server's own address."""
    headers = HTTPConnection(scope).headers
    origin = urlsplit(headers.get("origin", ""))
    is_own = (
        origin.scheme in ("http", "https") and bool(origin.netloc) and origin.netloc == headers.get("host")
    )
    return is_own and headers.get("sec-fetch-site", "same-origin") == "same-origin"


def _one_time_cookie(cookie: str) -> str:
    return f"{cookie}_once"


def _keep(kept: OrderedDict[str, Value], name: str, value: Value) -> None:
    kept[name] = value
    while len(kept) > _MAX_TOKENS:
        kept.popitem(last=False)


class Actions:
    """Request handlers of changes, one method for each kind of target."""

    def __init__(self, world: AppContext, change: Change) -> None:
        self._world = world
        self._change = change

    async def on_sweep(self, request: Request) -> Response:
        """Change a sweep, its workers or its name, or delete it; RefusedError if that is impossible now."""
        names, act = request.path_params, await _act_in(request, (*STATES, DRAIN, SCALE, EDIT, DELETE))
        at = SweepAt(names["entity"], names["project"], names["sweep"])
        if act.do == DRAIN:
            await asyncio.to_thread(run_data.drain, self._world, at, act.worker)
            return answers.guarded(JSONResponse({"drain": "told"}))
        if act.do == SCALE:
            await asyncio.to_thread(run_data.scale, self._world, at, act.workers)
            return answers.guarded(JSONResponse({"scale": "told"}))
        if act.do == DELETE:
            then = await self._change(_delete_sweep, at)
            return answers.guarded(JSONResponse({"delete": "done", "then": then}))
        if act.do == EDIT:
            await self._change(supervision.set_name, at, act.texts.get("name", ""))
            return answers.guarded(JSONResponse({"edit": "done"}))
        state = await self._change(supervision.set_state, at, STATES[act.do])
        return answers.guarded(JSONResponse({"state": state}))

    async def on_run(self, request: Request) -> Response:
        """Ask a run to stop, edit its texts, or delete it; RefusedError (404) if it doesn't exist."""
        names = request.path_params
        act = await _act_in(request, ("stop", EDIT, DELETE))
        path = RunPath(names["entity"], names["project"], names["run"])
        if act.do == EDIT:
            await self._change(runs.describe, path, _columns_of(act.texts))
            return answers.guarded(JSONResponse({"edit": "done"}))
        if act.do == DELETE:
            then = await self._change(_delete_run, path)
            return answers.guarded(JSONResponse({"delete": "done", "then": then}))
        await self._change(_stop, path)
        return answers.guarded(JSONResponse({"stop": "asked"}))


def _columns_of(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the columns of a run that edited texts set; tags are separated by commas."""
    columns = {"name": "display_name", "notes": "notes", "tags": "tags"}
    tags = list(dict.fromkeys(tag for each in texts.get("tags", "").split(",") if (tag := each.strip())))
    return {columns[name]: json.dumps(tags) if name == "tags" else text for name, text in texts.items()}


def _stop(world: AppContext, path: RunPath) -> None:
    with world.database.read() as transaction:
        run = run_at(transaction, path)
    runs.request_stop(world, run.id)


def _delete_run(world: AppContext, path: RunPath) -> str:
    """Delete a run; return the address of its sweep or project."""
    with world.database.read() as transaction:
        run = run_at(transaction, path)
    if run.state in OPEN:
        raise RefusedError(f"run {run.name} is {run.state}: delete it after its end", status=409)
    removal.delete_run(world, run.id, with_artifacts=False)
    return answers.address(run.entity, run.project, *(("sweeps", run.sweep_id) if run.sweep_id else ()))


def _delete_sweep(world: AppContext, at: SweepAt) -> str:
    """Delete an ended sweep; return the address of its project, or of the list if that is gone too."""
    with world.database.read() as transaction:
        sweep = sweep_at(transaction, at)
        counts = sweeps.counts(transaction, sweep.id)
    going_on = sweep.state not in _ENDED or any(counts.get(state, 0) for state in OPEN)
    if going_on or run_data.is_performed_here(world, at):
        raise RefusedError(f"sweep {at.sweep} goes on: delete it after its end", status=409)
    removal.remove_sweep(world, sweep.id)
    with world.database.read() as transaction:
        is_there = projects.find(transaction, at.entity, at.project) is not None
    return answers.address(at.entity, at.project) if is_there else "/"


@dataclass(frozen=True, slots=True)
class _Act:
    do: str
    worker: int
    """The worker to drain."""
    workers: int
    """The number of workers to scale to."""
    texts: Mapping[str, str]
    """The edited texts by name."""


async def _act_in(request: Request, allowed: Collection[str]) -> _Act:
    """Return the requested action; RefusedError: 403 for callers with a key, 400 for unknown actions."""
    if request.state.caller is None or request.state.caller.label != VIEWER:
        raise RefusedError("this is for pages; programs use W&B's public API", status=403)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY_BYTES:
            raise RefusedError(f"the body is larger than {_MAX_BODY_BYTES} bytes", status=413)
    try:
        asked = json.loads(body)
        do, worker, workers = asked["do"], asked.get("worker", _NO_WORKER), int(asked.get("workers", 0))
        texts = {name: str(asked[name]).strip() for name in _MAX_LENGTHS if name in asked}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        do, worker, workers, texts = None, None, 0, {}
    if do not in allowed or not isinstance(worker, int):
        raise RefusedError(
            f'the body must be an object whose "do" is one of {", ".join(allowed)}', status=400
        )
    for name, text in texts.items():
        if len(text) > _MAX_LENGTHS[name]:
            raise RefusedError(f"{name}: at most {_MAX_LENGTHS[name]} characters", status=400)
    if do == EDIT and (not texts or texts.get("name") == ""):
        raise RefusedError("the name must not be empty", status=400)
    return _Act(do, worker, workers, texts)
