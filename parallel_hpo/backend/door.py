"""How a server of ours is asked, beside W&B's protocol, for what only its supervisors may know and do.

One of ours says so to anybody, without a key; W&B's has no such address. That is asked before anything is
started, and so in this process: one quick request.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3  # not when something is asked first: at a script's end its import hides that Ctrl-C ended it
from urllib3.exceptions import HTTPError

from parallel_hpo.errors import BackendError, ServerAwayError, ServerRefusedError
from parallel_hpo.words import SweepPath

Answer = TypeVar("Answer")
REQUEST_LIMIT_S: Final = 10.0
AWAY_LIMIT_S: Final = 60.0
"""So long is a server waited for that is being restarted; all requests together wait no longer."""
RETRY_S: Final = 0.1
AGAIN_S: Final = 0.5
"""After so long a server that is being started is asked again."""
KEPT: Final = 8
"""Connections to a server that are kept; more threads than that never ask at once."""
WANDBS: Final = (".wandb.ai", ".coreweave.com")
"""The cloud's hosts, which need not be asked whether they are ours."""
HERE: Final = ("127.0.0.1", "localhost", "::1")
_REFUSALS: Final = 300
_SERVERS_FAULT: Final = 500
"""Statuses from here on say that the same may be asked again."""
_NOT_THERE: Final = 404
_ODD: Final = 200

OUR_NAME: Final = "parallel_hpo"
ASK_LIMIT_S: Final = 3.0
"""One that takes longer counts as a stranger's, and is asked by the wandb client, which has patience."""


class ServerAddress:
    """A server of ours and a key to it: asks it once, from any thread, over connections that are kept."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        token = b64encode(f"api:{key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: Any = None, *, limit_s: float = REQUEST_LIMIT_S) -> Any:
        """Return the answer's JSON.

        Raises:
            ServerRefusedError: it says no.
            ServerAwayError: it does not answer within so many seconds, or can't now.
        """
        address = f"{self.url}{path}"
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._connections.request(
                *(method, address), body=data, headers=self._headers, timeout=limit_s, retries=False
            )
        except (OSError, HTTPError) as error:
            raise ServerAwayError(f"{address}: {error}") from None
        if answer.status < _REFUSALS:
            return _json_in(answer.data, address)
        said = _said_in(answer.data)
        message = f"{address}: {said.get('error') or f'HTTP {answer.status} {answer.reason}'}"
        if answer.status >= _SERVERS_FAULT:
            raise ServerAwayError(message)
        raise ServerRefusedError(message, status=answer.status, said=said)

    @cached_property
    def _connections(self) -> urllib3.PoolManager:
        return connections_to(self.url)


def connections_to(url: str) -> urllib3.PoolManager:
    """Return what keeps connections to a server, by the proxy that the environment names on the way there.

    None is on the way to this machine itself; elsewhere one may be the only way, as it is for wandb's client.
    """
    parts = urlsplit(url)
    here = parts.hostname in HERE or proxy_bypass(parts.netloc)
    proxy = None if here else getproxies().get(parts.scheme)
    if not proxy:
        return urllib3.PoolManager(maxsize=KEPT)
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    known = urlsplit(proxy)
    login = f"{unquote(known.username)}:{unquote(known.password or '')}" if known.username else None
    headers = urllib3.make_headers(proxy_basic_auth=login)
    return urllib3.ProxyManager(proxy, proxy_headers=headers, maxsize=KEPT)


def _json_in(data: bytes, address: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        message = f"{address}: the answer is no JSON, so that no server of ours has given it"
        raise ServerRefusedError(message, status=_ODD, said={}) from None


def _said_in(data: bytes) -> Mapping[str, Any]:
    """Return a refusal's body; empty where it is none of ours."""
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def ask_patiently(
    ask: Callable[[], Answer], *, within_s: float, say: Callable[[ServerAwayError], None] = lambda error: None
) -> Answer:
    """Return the answer of a server that may just be being started; `say` hears once that it is away.

    Raises ServerAwayError where it still is after so many seconds, and whatever else `ask` raises.
    """
    until, told = time.monotonic() + within_s, False
    while True:
        try:
            return ask()
        except ServerAwayError as error:
            if time.monotonic() >= until:
                raise
            if not told:
                say(error)
            told = True
            time.sleep(AGAIN_S)


class Door:
    """Asks one server, from any thread; `url` is set once it is known."""

    def __init__(
        self,
        key: str,
        closing: threading.Event,
        why_lost: Callable[[], str],
        *,
        away_limit_s: float = AWAY_LIMIT_S,
        url: str = "",
    ) -> None:
        """`closing` ends every wait; `why_lost` says why the server will not be back, or ''.

        `url` may come later where the server is on this machine.
        """
        self.url = url
        self._key = key
        self._closing = closing
        self._why_lost = why_lost
        self._away_limit_s = away_limit_s
        self._away_since: float | None = None
        self._server: ServerAddress | None = None

    def ask(self, method: str, path: SweepPath, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer; None: there is no such thing. A server that is away is waited for.

        Raises:
            BackendError: it refuses, or is away for too long, or for good.
        """
        if self._server is None or self._server.url != self.url.rstrip("/"):
            self._server = ServerAddress(self.url, self._key)
        server = self._server
        while True:
            try:
                answer = server.ask(method, f"/hpo/sweeps/{path}{verb}", body)
                self._away_since = None
                return answer
            except ServerRefusedError as error:
                if method == "GET" and error.status == _NOT_THERE:
                    return None
                raise BackendError(self._why_lost() or str(error)) from None
            except ServerAwayError as error:
                if self._why_lost() or self._closing.is_set() or self._is_away_for_long():
                    raise BackendError(self._why_lost() or str(error)) from None
                self._closing.wait(RETRY_S)

    def _is_away_for_long(self) -> bool:
        """Note that the server does not answer; whether it is not worth another wait."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since > self._away_limit_s


def is_away(url: str) -> bool:
    """Return whether nobody answers at this address now, as where a server is being started again."""
    try:
        ServerAddress(url, "").ask("GET", "/hpo/health", limit_s=ASK_LIMIT_S)
    except ServerAwayError:
        return True
    except BackendError:
        return False
    return False


def is_ours(url: str) -> bool:
    """Return whether a server of ours answers at this address."""
    host = urlsplit(url).hostname or ""
    if f".{host}".endswith(WANDBS):
        return False
    try:
        answer = ServerAddress(url, "").ask("GET", "/hpo/health", limit_s=ASK_LIMIT_S)
    except BackendError:
        return False
    return isinstance(answer, dict) and answer.get("server") == OUR_NAME
