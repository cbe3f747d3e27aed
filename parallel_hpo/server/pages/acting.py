"""Who may change something from a page: the page that a ticket led to, and no other one.

    ticket ─▶ 303, with the pass and a hand-over cookie (a minute, for /pages/token alone)
    page ──▶ POST /pages/token ─▶ a token, once for each hand-over; it stays in the page's sessionStorage
    page ──▶ POST /pages/act/…, with the token in a header, from its own Origin

A cookie is sent to servers on other ports too, and so proves nothing here. The token never is: scripts of
our own origin have it, and it ends with this process.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from parallel_hpo.server.pages import answers

TOKEN_PATH: Final = "/pages/token"
ACT_PATH: Final = "/pages/act/"
HEADER: Final = "x-parallel-hpo-token"
_HAND_OVER_S: Final = 60.0
_MOST: Final = 1000
Value = TypeVar("Value")


class Acting:
    """The tokens of one server's pages."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._offered: OrderedDict[str, float] = OrderedDict()
        """Hand-overs that were not used yet, and when they were made."""
        self._tokens: OrderedDict[str, None] = OrderedDict()

    def offer(self, response: Response, cookie: str) -> None:
        """Let the browser that gets this response ask for a token, once."""
        name = secrets.token_hex(16)
        _keep(self._offered, name, self._clock())
        age_s = int(_HAND_OVER_S)
        response.set_cookie(
            _hand_over(cookie), name, max_age=age_s, path=TOKEN_PATH, httponly=True, samesite="strict"
        )

    def take(self, scope: Scope, cookie: str) -> Response | None:
        """Return a token for a request that asks for one, or none (204); None: it may not ask."""
        if scope["method"] != "POST" or scope["path"] != TOKEN_PATH or not comes_from_own_page(scope):
            return None
        name = HTTPConnection(scope).cookies.get(_hand_over(cookie), "")
        offered_at = self._offered.pop(name, None)
        if offered_at is None or self._clock() - offered_at > _HAND_OVER_S:
            return answers.guarded(Response(status_code=204))
        token = secrets.token_hex(32)
        _keep(self._tokens, token, None)
        response = JSONResponse({"token": token})
        response.delete_cookie(_hand_over(cookie), path=TOKEN_PATH)
        return answers.guarded(response)

    def may_act(self, scope: Scope) -> bool:
        """Say whether a request that changes something comes from a page that has a token."""
        if (
            scope["method"] != "POST"
            or not scope["path"].startswith(ACT_PATH)
            or not comes_from_own_page(scope)
        ):
            return False
        given = HTTPConnection(scope).headers.get(HEADER, "").encode(errors="replace")
        return any(hmac.compare_digest(token.encode(), given) for token in self._tokens)


def comes_from_own_page(scope: Scope) -> bool:
    """Say whether a browser names this server's own address as the page's that sends a request."""
    headers = HTTPConnection(scope).headers
    origin = urlsplit(headers.get("origin", ""))
    is_own = (
        origin.scheme in ("http", "https") and bool(origin.netloc) and origin.netloc == headers.get("host")
    )
    return is_own and headers.get("sec-fetch-site", "same-origin") == "same-origin"


def _hand_over(cookie: str) -> str:
    return f"{cookie}_once"


def _keep(kept: OrderedDict[str, Value], name: str, value: Value) -> None:
    kept[name] = value
    while len(kept) > _MOST:
        kept.popitem(last=False)
