"""The gate before every handler: which Host names are served, and whose key a request carries.

A person's browser carries no key: it may look at pages with the pass that it was given for a ticket.

The Host check keeps out a web page that rebinds a name of its own to this machine.
Addresses of files carry their right in the address, and health tells nothing.

They begin as the address that the caller used. Behind a proxy that is what its X-Forwarded-Proto and
X-Forwarded-Host say, whoever sent them: an address goes back to the caller alone, who came with a key, so
that one who forges them misleads nobody else.

Whose a server is: an embedded one hears its key and its end from its owner, one by itself keeps its key.

An owner is told of the database's trouble. A key that is kept is in a file of mode 0600, so that it
survives restarts: beside a SQLite database that has its files beside it; else where the files are, so
that servers on several machines have one key, and take each other's addresses of files.

The one place where errors become answers.
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
from parallel_hpo.server.context import STRANGER, VIEWER, Caller
from parallel_hpo.server.pages import answers, browser_auth
from parallel_hpo.server.pages.browser_auth import BrowserAuth, wants_html
from parallel_hpo.server.store.database import TellTrouble, UnavailableError
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
    "this machine's part in the sweep is over (epoch {}): it has left, or was not heard for too long;"
    " its runs are run again elsewhere"
)
POOLS: Final = "/hpo/pools/"
_KEYLESS: Final = ("/hpo/health", "/uploads/", "/downloads/", "/sdk/otel/", *browser_auth.OPEN)
"""Where no key is looked for. /sdk/otel/ isn't there: the client sends its own telemetry without a key,
drops it at a 404, and would complain to the user about a 401."""


class Gate:
    """ASGI middleware that lets a request through with its `Caller`, or answers 400 or 401 itself."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        master_key: str,
        host: str,
        entrance: BrowserAuth,
        is_alive: Callable[[str, int], bool],
    ) -> None:
        """`is_alive` returns whether the node with an epoch is still in its sweep's pool."""
        self._app = app
        self._is_alive = is_alive
        self._entrance = entrance
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
        if (way_on := self._entrance.redeem(scope)) is not None:
            await way_on(scope, receive, send)
            return
        base_url = _base_url(headers, scope["scheme"], host)
        caller = self._caller(headers, base_url)
        if caller is None and (self._entrance.may_view(scope) or self._entrance.may_act(scope)):
            caller = Caller(VIEWER, is_master=False, base_url=base_url)
        if caller is None and not scope["path"].startswith(_KEYLESS):
            await self._turn_away(scope, receive, send)
            return
        if caller is not None and (refusal := await self._why_gone(scope, caller)) is not None:
            await self._refuse(scope, receive, send, *refusal)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _why_gone(self, scope: Scope, caller: Caller) -> tuple[int, str] | None:
        """Return the answer to a node that is gone, or to its worker; a pool tells a node so itself."""
        if caller.node is None or caller.sweep is None or scope["path"].startswith(POOLS):
            return None
        try:
            alive = await asyncio.to_thread(self._is_alive, caller.sweep, caller.node)
        except UnavailableError as error:
            return 503, f"the server can't answer now: {error}"
        return None if alive else (403, _GONE.format(caller.node))

    async def _turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one without a key: a person, by a page that says how to come in."""
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
            return Caller(STRANGER, is_master=True, base_url=base_url)
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
    """Return whose key a request carries, as the gate noted it."""
    caller: Caller = request.state.caller
    return caller


def expect_supervisor(caller: Caller, sweep: str) -> None:
    """Expect the master key, the sweep's own, or that of one of its nodes; RefusedError (403) for others."""
    if not caller.is_master and not (caller.is_supervisor and caller.sweep == sweep):
        raise RefusedError(
            "this address takes the master key, the sweep's own, or that of one of its machines", status=403
        )


def log_refusal(scope: Scope, status: int, why: str) -> None:
    """Log a request that is refused, without what may be secret in it: its headers and its query."""
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
    """Return the beginning of the address that the caller used, before any proxy."""
    # Each proxy adds its own word at the end.
    proto = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    forwarded = headers.get("x-forwarded-host", "").partition(",")[0].strip()
    return f"{proto if proto in _SCHEMES else scheme}://{forwarded if _name_of(forwarded) else host}"


def _name_of(host: str) -> str:
    """Return a Host header's name without its port; '' where it is none."""
    parts = _HOST.fullmatch(host)
    return "" if parts is None else (parts["address"] or parts["name"]).lower()


def _answer(status: int, message: str) -> JSONResponse:
    return JSONResponse({"errors": [{"message": message}], "error": message}, status)


KEY_LENGTH: Final = 40  # wandb's client refuses shorter ones
NAME: Final = "server.key"


def kept_key(folder: Path, before: Path) -> str:
    """Return the key that is kept in a folder; a server that had one in the folder `before` has it still.

    BackendError where it can't be kept, or the file holds none.
    """
    path = folder / NAME
    try:
        return _kept(path, _read(before / NAME) if (before / NAME).exists() else new_master_key())
    except OSError as error:
        raise BackendError(
            f"the sweep server can't keep its key in {path}: {error.strerror}; name another --database"
        ) from error


def _kept(path: Path, new: str) -> str:
    """Return the key in the file, which is the new one where there was none.

    It appears there whole or not at all: another server may start at the same moment.
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
        raise BackendError(f"{path} holds no key; delete it, and the server makes a new one")
    return key


def key_from(stdin: IO[bytes]) -> str:
    """Read the key that the owner writes as the first line of stdin."""
    try:
        key = json.loads(stdin.readline())["api_key"]
    except (ValueError, KeyError, TypeError):
        key = None
    if not isinstance(key, str) or len(key) < KEY_LENGTH:
        raise UsageError('an embedded server needs one line {"api_key": "<40 digits or more>"} on stdin')
    return key


def teller(stdout: IO[str]) -> TellTrouble:
    """Return what tells the owner of the database's trouble, and of its end."""

    def tell(why: str, for_good: bool) -> None:
        with suppress(OSError):  # the owner is gone, and so are we soon
            print(json.dumps({"trouble": why, "for_good": for_good}), file=stdout, flush=True)

    return tell


def exit_at_end_of(stdin: IO[bytes]) -> None:
    """Wait for the owner's end of the pipe to close, then end the process.

    Nobody is left to be served, and the database bears it: a graceful end would only take longer.
    """
    while stdin.read(4096):
        pass
    os._exit(0)


def _error(message: str, status: int) -> Response:
    # Public API clients read `errors`, wandb-core reads `error`.
    return JSONResponse({"data": None, "errors": [{"message": message}], "error": message}, status)


async def refused(request: Request, error: Exception) -> Response:
    """Answer what was asked in a wrong way, a person by a page."""
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
    """Answer what the client tries again: the database is busy, or the disk is full."""
    _log.warning("can't answer now: %s", error)
    return _error(f"the server can't answer now: {error}", 503)


async def failed(request: Request, error: Exception) -> Response:
    """Answer where the fault is ours."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error(f"the server failed: {type(error).__name__}", 500)
