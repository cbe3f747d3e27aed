"""How a server of ours is asked, beside W&B's protocol, for what only its supervisors may know and do."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import ProxyHandler

from parallel_hpo.errors import BackendError, ServerAwayError, ServerRefusedError
from parallel_hpo.words import SweepPath

REQUEST_LIMIT_S: Final = 10.0
AWAY_LIMIT_S: Final = 60.0
"""So long is a server waited for that is being restarted; all requests together wait no longer."""
RETRY_S: Final = 0.1
HERE: Final = ("127.0.0.1", "localhost", "::1")
_SERVERS_FAULT: Final = 500
"""Statuses from here on say that the same may be asked again."""
_NOT_THERE: Final = 404
_ODD: Final = 200


def on_the_way_to(url: str) -> ProxyHandler:
    """Return the proxies of the environment on the way to a server; none are to this machine itself.

    Elsewhere one may be the only way, as it is for wandb's client.
    """
    here = urlsplit(url).hostname in HERE
    return ProxyHandler({}) if here else ProxyHandler()


class ServerAddress:
    """A server of ours and a key to it: asks it once, from any thread."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        token = b64encode(f"api:{key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        self._opener = urllib.request.build_opener(on_the_way_to(self.url))

    def ask(self, method: str, path: str, body: Any = None, *, limit_s: float = REQUEST_LIMIT_S) -> Any:
        """Return the answer's JSON.

        Raises:
            ServerRefusedError: it says no.
            ServerAwayError: it does not answer within so many seconds, or can't now.
        """
        address = f"{self.url}{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, method=method, data=data, headers=self._headers)
        try:
            with self._opener.open(request, timeout=limit_s) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            said = _said_in(error)
            message = f"{address}: {said.get('error') or error}"
            if error.code >= _SERVERS_FAULT:
                raise ServerAwayError(message) from None
            raise ServerRefusedError(message, status=error.code, said=said) from None
        except (OSError, HTTPException) as error:
            raise ServerAwayError(f"{address}: {error}") from None
        except ValueError:
            message = f"{address}: the answer is no JSON, so that no server of ours has given it"
            raise ServerRefusedError(message, status=_ODD, said={}) from None


def _said_in(error: urllib.error.HTTPError) -> Mapping[str, Any]:
    """Return a refusal's body; empty where it is none of ours."""
    try:
        said = json.load(error)
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        error.close()
    return said if isinstance(said, dict) else {}


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

    def ask(self, method: str, path: SweepPath, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer; None: there is no such thing. A server that is away is waited for.

        Raises:
            BackendError: it refuses, or is away for too long, or for good.
        """
        server = ServerAddress(self.url, self._key)
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
