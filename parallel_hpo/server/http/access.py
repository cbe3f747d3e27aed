"""Access to the server: Host and key of each request, the server's own key, and errors as responses.

The Host check keeps out web pages that rebind a name of theirs to this machine. A browser has no key: a
session cookie, given for a login link, lets it read pages. A signed URL carries the right to its file, and
health needs no key.

Signed URLs begin as the URL that the caller used: behind a proxy by X-Forwarded-Proto and X-Forwarded-Host.
Any sender of these headers is believed: only the caller, who has a key, gets the URL.

An embedded server gets its key from its parent and reports trouble with the database to it. Another one
keeps its key in a file of mode 0600, so that it survives restarts: beside a SQLite database if the files are
there too, else in the folder of files, so that servers on several machines share it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.keys import SUPERVISOR, holder_of, is_master_key, new_master_key
from parallel_hpo.server.context import UNLABELLED, VIEWER, Caller
from parallel_hpo.server.pages import answers, browser_auth
from parallel_hpo.server.pages.browser_auth import BrowserAuth, wants_html
from parallel_hpo.server.store.database import ReportTrouble, UnavailableError
from parallel_hpo.server.values import RefusedError

_log = logging.getLogger(__name__)
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_HOST: Final = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:@/]+))(?::\d{1,5})?", re.ASCII)
_NOT_SERVED: Final = (
    "this Host name is not served here; a proxy in front must send the name by which it reaches this server,"
    " and the caller's as X-Forwarded-Host"
)
_SCHEMES: Final = ("http", "https")
_GONE: Final = (
    "this machine is no longer part of the sweep (epoch {}): it has left, or its lease has expired;"
    " its runs are retried elsewhere"
)
POOLS: Final = "/hpo/pools/"
_KEYLESS: Final = ("/hpo/health", "/uploads/", "/downloads/", "/sdk/otel/", *browser_auth.OPEN)
"""Paths that need no key. /sdk/otel/ isn't served: the client sends its telemetry without a key, drops it
at a 404, and would complain to the user about a 401."""


class Gate:
    """ASGI middleware that passes a request on with its `Caller`, or answers 400, 401 or 403 itself."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        master_key: str,
        host: str,
        auth: BrowserAuth,
        is_alive: Callable[[str, int], bool],
    ) -> None:
        """`is_alive` returns whether the node with an epoch is still in its sweep's pool."""
        self._app = app
        self._is_alive = is_alive
        self._auth = auth
        self._master_key = master_key
        self._hosts = _LOOPBACK | {host} if host in _LOOPBACK else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = HTTPConnection(scope).headers
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            await self._refuse(scope, receive, send, 400, _NOT_SERVED)
            return
        if (redirect := self._auth.redeem(scope)) is not None:
            await redirect(scope, receive, send)
            return
        base_url = _base_url(headers, scope["scheme"], host)
        caller = self._caller(headers, base_url)
        if caller is None and (self._auth.may_view(scope) or self._auth.may_act(scope)):
            caller = Caller(VIEWER, is_master=False, base_url=base_url)
        if caller is None and not scope["path"].startswith(_KEYLESS):
            await self._refuse_without_key(scope, receive, send)
            return
        if caller is not None and (refusal := await self._node_refusal(scope, caller)) is not None:
            await self._refuse(scope, receive, send, *refusal)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _node_refusal(self, scope: Scope, caller: Caller) -> tuple[int, str] | None:
        """Return the refusal of a lost node or its worker; the pool's endpoints answer a node themselves."""
        if caller.node is None or caller.sweep is None or scope["path"].startswith(POOLS):
            return None
        try:
            alive = await asyncio.to_thread(self._is_alive, caller.sweep, caller.node)
        except UnavailableError as error:
            return 503, f"the server can't answer now: {error}"
        return None if alive else (403, _GONE.format(caller.node))

    async def _refuse_without_key(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request without a key; a browser gets a page that explains the login."""
        if browser_auth.wants_html(scope):
            await browser_auth.closed()(scope, receive, send)
        else:
            await self._refuse(scope, receive, send, 401, "the API key is missing or is not this server's")

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
        log_refusal(scope, status, why)
        await _answer(status, why)(scope, receive, send)

    def _caller(self, headers: Mapping[str, str], base_url: str) -> Caller | None:
        key = key_in(headers.get("authorization", ""))
        if key is None:
            return None
        if is_master_key(self._master_key, key):
            return Caller(UNLABELLED, is_master=True, base_url=base_url)
        holder = holder_of(self._master_key, key)
        if holder is None:
            return None
        return Caller(
            holder.label,
            is_master=False,
            base_url=base_url,
            sweep=holder.sweep,
            node=holder.node,
            is_supervisor=holder.label == SUPERVISOR or holder.is_node,
        )


def caller_of(request: HTTPConnection) -> Caller:
    """Return a request's caller, as set by Gate."""
    caller: Caller = request.state.caller
    return caller


def expect_supervisor(caller: Caller, sweep: str) -> None:
    """Accept the master key, the sweep's own and its nodes' keys; RefusedError (403) for others."""
    if not caller.is_master and not (caller.is_supervisor and caller.sweep == sweep):
        raise RefusedError(
            "this endpoint needs the master key, the sweep's own, or that of one of its machines", status=403
        )


def log_refusal(scope: Scope, status: int, why: str) -> None:
    """Log a refused request without its headers and query, which may hold secrets."""
    client = (scope.get("client") or ("?",))[0]
    _log.warning("refused %s %.200r from %s: %d, %s", scope["method"], scope["path"], client, status, why)


def key_in(authorization: str) -> str | None:
    """Return the key of a Basic authorization whose user is `api`, or None."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, key = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return key if user == "api" else None


def _base_url(headers: Mapping[str, str], scheme: str, host: str) -> str:
    """Return the scheme and host of the URL that the caller used, before any proxy."""
    # Each proxy appends its own value.
    proto = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    forwarded = headers.get("x-forwarded-host", "").partition(",")[0].strip()
    return f"{proto if proto in _SCHEMES else scheme}://{forwarded if _name_of(forwarded) else host}"


def _name_of(host: str) -> str:
    """Return a Host header's name without its port; '' if it is invalid."""
    parts = _HOST.fullmatch(host)
    return "" if parts is None else (parts["address"] or parts["name"]).lower()


def _answer(status: int, message: str) -> JSONResponse:
    return JSONResponse({"errors": [{"message": message}], "error": message}, status)


KEY_LENGTH: Final = 40  # wandb's client refuses shorter ones
NAME: Final = "server.key"


def stored_key(folder: Path, before: Path) -> str:
    """Return the key stored in `folder`, copied from `before` or created if needed.

    BackendError if it can't be stored, or the file is invalid.
    """
    path = folder / NAME
    try:
        return _ensure_key(path, _read(before / NAME) if (before / NAME).exists() else new_master_key())
    except OSError as error:
        raise BackendError(
            f"the sweep server can't store its key in {path}: {error.strerror}; name another --database"
        ) from error


def _ensure_key(path: Path, new: str) -> str:
    """Return the key in the file, which gets `new` if it is missing.

    The file is created atomically: another server may start at the same moment.
    """
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".server.key-") as file:  # mode 0600
            file.write(new + "\n")
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    return _read(path)


def _read(path: Path) -> str:
    key = path.read_text(encoding="ascii", errors="replace").strip()
    if len(key) < KEY_LENGTH:
        raise BackendError(f"{path} has no valid key; delete it, and the server creates a new one")
    return key


def key_from(stdin: IO[bytes]) -> str:
    """Read the key that the parent writes as the first line of stdin."""
    try:
        key = json.loads(stdin.readline())["api_key"]
    except (ValueError, KeyError, TypeError):
        key = None
    if not isinstance(key, str) or len(key) < KEY_LENGTH:
        raise UsageError('an embedded server needs one line {"api_key": "<40 digits or more>"} on stdin')
    return key


def trouble_reporter(stdout: IO[str]) -> ReportTrouble:
    """Return a function that reports trouble with the database, and its end, to the parent."""

    def report(problem: str, for_good: bool) -> None:
        with suppress(OSError):  # the parent has ended, and this process soon will
            print(json.dumps({"trouble": problem, "for_good": for_good}), file=stdout, flush=True)

    return report


def exit_at_end_of(stdin: IO[bytes]) -> None:
    """Wait until the parent closes its end of the pipe, then exit.

    No client is left, and the database tolerates it: a graceful shutdown would only take longer.
    """
    while stdin.read(4096):
        pass
    os._exit(0)


def _error(message: str, status: int) -> Response:
    # wandb client: the public API reads `errors`, wandb-core reads `error`.
    return JSONResponse({"data": None, "errors": [{"message": message}], "error": message}, status)


async def refused(request: Request, error: Exception) -> Response:
    """Answer a refused request; a browser gets a page."""
    assert isinstance(error, RefusedError)
    if error.status == 403:
        log_refusal(request.scope, 403, str(error))
    caller: Caller | None = getattr(request.state, "caller", None)
    if wants_html(request.scope):
        return answers.html("missing.html", error.status, why=str(error))
    if caller is not None and caller.sweep is not None and "doesn't exist" in str(error):
        return _error(f"{error}, or is not in sweep {caller.sweep}, whose key this is", error.status)
    return _error(str(error), error.status)


async def unavailable(_request: Request, error: Exception) -> Response:
    """Answer 503, which clients retry: the database is busy, or the disk is full."""
    _log.warning("can't answer now: %s", error)
    return _error(f"the server can't answer now: {error}", 503)


async def disconnected(_request: Request, _cause: Exception) -> Response:
    """Answer a request whose client has left amid it; nobody receives the answer."""
    return _error("the connection was closed", 400)


async def failed(request: Request, error: Exception) -> Response:
    """Answer 500 for an error of the server's own."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error(f"the server failed: {type(error).__name__}", 500)
