"""The door of a server of ours, beside W&B's protocol: what only a supervisor may ask."""

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

from parallel_hpo.errors import BackendError
from parallel_hpo.words import SweepPath

REQUEST_LIMIT_S: Final = 10.0
AWAY_LIMIT_S: Final = 60.0
"""So long is a server waited for that is being restarted; all requests together wait no longer."""
RETRY_S: Final = 0.1
HERE: Final = ("127.0.0.1", "localhost", "::1")


def on_the_way_to(url: str) -> ProxyHandler:
    """Return the proxies of the environment on the way to a server; none are to this machine itself."""
    here = urlsplit(url).hostname in HERE
    return ProxyHandler({}) if here else ProxyHandler()


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
        self._opener = urllib.request.build_opener(on_the_way_to(url or f"http://{HERE[0]}"))
        self._closing = closing
        self._why_lost = why_lost
        self._away_limit_s = away_limit_s
        self._away_since: float | None = None
        token = b64encode(f"api:{key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: SweepPath, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer; None: there is no such thing. A server that is away is waited for.

        Raises:
            BackendError: it refuses, or is away for too long, or for good.
        """
        address = f"{self.url}/hpo/sweeps/{path}{verb}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, method=method, data=data, headers=self._headers)
        while True:
            try:
                with self._opener.open(request, timeout=REQUEST_LIMIT_S) as response:
                    answer = json.load(response)
                self._away_since = None
                return answer
            except (OSError, HTTPException, json.JSONDecodeError) as error:
                if method == "GET" and isinstance(error, urllib.error.HTTPError) and error.code == 404:
                    return None
                final = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if final or self._why_lost() or self._closing.is_set() or self._is_away_for_long():
                    raise BackendError(self._why_lost() or f"{address}: {error}") from None
                self._closing.wait(RETRY_S)

    def _is_away_for_long(self) -> bool:
        """Note that the server does not answer; whether it is not worth another wait."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since > self._away_limit_s
