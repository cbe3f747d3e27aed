"""Login of browsers: a ticket (a one-time token in a URL, valid for minutes) is exchanged for a cookie.

    GET address?ticket=… ─▶ 303 to the address, with a cookie ─▶ the page
    GET address ──────────▶ 401, a page that says how to log in

The cookie's token only allows reading, because browsers send cookies to all ports of this machine. The
cookie's name contains the port that the browser used, so that several servers, or tunnels by `ssh -L`, don't
overwrite each other's.

Of the users of this machine only the server's own may log in. Linux lists the owner of each socket, so a
ticket that another user reads from a command line, or a stolen cookie, is useless to them.
"""

from __future__ import annotations

import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from parallel_hpo.core import keys
from parallel_hpo.server.pages import answers
from parallel_hpo.server.pages.actions import TOKEN_PATH, ActionTokens

_SOCKET_LISTS: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_CACHED_S: Final = 5.0
_MAX_KNOWN: Final = 1000
_ROOT: Final = 0
"""Root forwards ports for other users, and may read everything anyway."""

_RESERVED: Final = "graphql|files|uploads|downloads|artifactsV2|hpo|sdk|pages"
"""First parts of paths that are not entities."""
_PAGES: Final = re.compile(
    rf"/|/pages/data/.+|/(?!(?:{_RESERVED})/)[^/]+/[^/]+/?(?:(?:sweeps|runs)/.+|sweeps/?|runs/?|workspace/?)?"
)
OPEN: Final = ("/pages/static/", "/favicon.ico")
"""Paths that need no login: they reveal nothing about sweeps."""
_PORT: Final = re.compile(r":(\d{1,5})$", re.ASCII)


class BrowserAuth:
    """The logins of one server's pages."""

    def __init__(
        self, master_key: str, clock: Callable[[], float], peers: LocalConnections | None = None
    ) -> None:
        self._peers = peers or LocalConnections()
        self._master_key = master_key
        self._ticket_key = keys.ticket_key(master_key)
        self._clock = clock
        self._action_tokens = ActionTokens(clock)
        self._since = clock()
        """Tickets issued earlier are refused: a restart forgets which ones were used."""
        self._used: set[str] = set()

    def may_view(self, scope: Scope) -> bool:
        """Return whether a request only reads a page, and has a valid cookie."""
        return is_page(scope) and self._is_logged_in(scope)

    def may_act(self, scope: Scope) -> bool:
        """Return whether a request that changes something comes from a page with a token."""
        return self._action_tokens.may_act(scope) and self._is_logged_in(scope)

    def _is_logged_in(self, scope: Scope) -> bool:
        if self._peers.is_other_users(scope):
            return False
        request = HTTPConnection(scope)
        given = request.cookies.get(cookie_name(request), "")
        return keys.may_view(self._master_key, given, self._clock())

    def redeem(self, scope: Scope) -> Response | None:
        """Return the redirect for a request with a ticket; None if it has none or an invalid one."""
        request = HTTPConnection(scope)
        if scope["path"] == TOKEN_PATH:
            return (
                self._action_tokens.take(scope, cookie_name(request)) if self._is_logged_in(scope) else None
            )
        given = request.query_params.get(keys.PARAMETER)
        if given is None or not is_page(scope) or scope["method"] != "GET":
            return None
        if self._peers.is_other_users(scope):
            return None
        if self._take(given):
            response = _redirect_without_ticket(request)
            name, value = cookie_name(request), keys.viewing_pass(self._master_key, self._clock())
            response.set_cookie(name, value, httponly=True, samesite="lax", path="/")
            self._action_tokens.offer(response, name)
            return response
        return _redirect_without_ticket(request) if self.may_view(scope) else None

    def _take(self, given: str) -> bool:
        """Mark a ticket as used; False if it is invalid, used or expired."""
        ticket, now = keys.read(self._ticket_key, given), self._clock()
        if ticket is None or ticket.name in self._used:
            return False
        if not self._since - 0.001 <= ticket.issued_at or now - ticket.issued_at > keys.TICKET_VALID_S:
            return False
        self._used.add(ticket.name)
        return True


def is_page(scope: Scope) -> bool:
    """Return whether a request reads a page's address."""
    return scope["method"] in ("GET", "HEAD") and _PAGES.fullmatch(scope["path"]) is not None


def cookie_name(request: HTTPConnection) -> str:
    """Return the name of the cookie for the port that the browser used."""
    port = _PORT.search(request.headers.get("host", ""))
    return f"parallel_hpo_{port[1] if port else 'default'}"


def wants_html(scope: Scope) -> bool:
    """Return whether the client is a browser that wants a page."""
    reads = scope["method"] in ("GET", "HEAD")
    return reads and "text/html" in HTTPConnection(scope).headers.get("accept", "")


def closed() -> Response:
    """Return the page that says how to log in."""
    return answers.html("closed.html", 401)


def _redirect_without_ticket(request: HTTPConnection) -> Response:
    """Return a redirect to the same path without the ticket, on the host name that the browser used."""
    left = [(name, value) for name, value in parse_qsl(request.url.query) if name != keys.PARAMETER]
    path = request.url.path  # a page's path never begins with `//`, which would be another host
    response = RedirectResponse(f"{path}?{urlencode(left)}" if left else path, 303)
    return answers.guarded(response)


class LocalConnections:
    """Finds out which user of this machine a connection belongs to; thread-safe."""

    def __init__(
        self,
        *,
        lists: tuple[Path, ...] = _SOCKET_LISTS,
        own: Callable[[], int] = os.getuid,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lists = lists
        self._own = own
        self._clock = clock
        self._known: OrderedDict[tuple[int, int], tuple[float, bool]] = OrderedDict()

    def is_other_users(self, scope: Scope) -> bool:
        """Return whether a connection is another local user's; False where the system can't tell."""
        client, server = scope.get("client"), scope.get("server")
        if not client or not server or server[1] is None or not _is_loopback(client[0]):
            return False
        pair, now = (int(client[1]), int(server[1])), self._clock()
        known = self._known.get(pair)
        if known is None or now - known[0] > _CACHED_S:
            known = now, any(owner not in (self._own(), _ROOT) for owner in self._owners(*pair))
            self._known[pair] = known
            while len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return known[1]

    def _owners(self, client_port: int, server_port: int) -> Iterator[int]:
        """Yield the owners of the sockets between the two ports, on any address."""
        ends = f":{client_port:04X}", f":{server_port:04X}"
        for path in self._lists:
            try:
                listed = path.read_text()
            except OSError:
                continue  # not Linux
            if ends[0] not in listed:
                continue
            for line in listed.splitlines()[1:]:
                words = line.split()
                if words[1].endswith(ends[0]) and words[2].endswith(ends[1]):
                    yield int(words[7])


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
