"""Who may look at the pages: a ticket in an address is exchanged for a cookie, once and within minutes.

    GET address?ticket=… ─▶ 303 to the address, with a cookie ─▶ the page
    GET address ──────────▶ 401, a page that says how to come in

The cookie holds a pass, which is good for looking and nothing else: browsers send it to whatever else
listens on this machine, as cookies know no ports. Its name goes by the port that the browser used, so that
servers side by side, or behind `ssh -L`, don't take each other's away.

Of who comes from this machine itself only its own user is let in, where the system tells whose process is at
the other end of a connection: Linux lists the owner of each socket. So neither a ticket that is overheard
(command lines are for all to see) nor a cookie is of use to another user of the machine.
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

_LISTS: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_REMEMBERED_S: Final = 5.0
_MOST: Final = 1000
_ROOT: Final = 0
"""Forwards ports for others, and may read everything anyway."""

_OTHERS: Final = "graphql|files|uploads|downloads|artifactsV2|hpo|sdk|pages"
"""First parts of addresses that are no entity's."""
_PAGES: Final = re.compile(
    rf"/|/pages/data/.+|/(?!(?:{_OTHERS})/)[^/]+/[^/]+/?(?:(?:sweeps|runs)/.+|sweeps/?|runs/?|workspace/?)?"
)
OPEN: Final = ("/pages/static/", "/favicon.ico")
"""What anybody may have: it tells nothing of any sweep."""
_MOST_USED: Final = 10_000
_PORT: Final = re.compile(r":(\d{1,5})$", re.ASCII)


class BrowserAuth:
    """Lets people in to one server's pages."""

    def __init__(
        self, master_key: str, clock: Callable[[], float], peers: LocalConnections | None = None
    ) -> None:
        self._peers = peers or LocalConnections()
        self._master_key = master_key
        self._ticket_key = keys.ticket_key(master_key)
        self._clock = clock
        self._acting = ActionTokens(clock)
        self._since = clock()
        """What was issued before may have been used: that is not kept over a restart."""
        self._used: OrderedDict[str, None] = OrderedDict()

    def may_view(self, scope: Scope) -> bool:
        """Say whether a request is for a page, only reads, and has a good pass."""
        return is_page(scope) and self._has_pass(scope)

    def may_act(self, scope: Scope) -> bool:
        """Say whether a request that changes something comes from a page that may."""
        return self._acting.may_act(scope) and self._has_pass(scope)

    def _has_pass(self, scope: Scope) -> bool:
        if self._peers.is_strangers(scope):
            return False
        request = HTTPConnection(scope)
        given = request.cookies.get(cookie_name(request), "")
        return keys.may_view(self._master_key, given, self._clock())

    def redeem(self, scope: Scope) -> Response | None:
        """Return the way on for a request that has a ticket; None: it has none, or one that isn't good."""
        request = HTTPConnection(scope)
        if scope["path"] == TOKEN_PATH:
            return self._acting.take(scope, cookie_name(request)) if self._has_pass(scope) else None
        given = request.query_params.get(keys.PARAMETER)
        if given is None or not is_page(scope) or scope["method"] != "GET":
            return None
        if self._peers.is_strangers(scope):
            return None
        if self._take(given):
            response = _way_on(request)
            name, value = cookie_name(request), keys.viewing_pass(self._master_key, self._clock())
            response.set_cookie(name, value, httponly=True, samesite="lax", path="/")
            self._acting.offer(response, name)
            return response
        return _way_on(request) if self.may_view(scope) else None

    def _take(self, given: str) -> bool:
        """Use a ticket up; False where it isn't good, or not any more."""
        ticket, now = keys.read(self._ticket_key, given), self._clock()
        if ticket is None or ticket.name in self._used:
            return False
        if not self._since - 0.001 <= ticket.issued_at or now - ticket.issued_at > keys.TICKET_VALID_S:
            return False
        self._used[ticket.name] = None
        while len(self._used) > _MOST_USED:
            self._used.popitem(last=False)
        return True


def is_page(scope: Scope) -> bool:
    """Say whether a request reads a page's address."""
    return scope["method"] in ("GET", "HEAD") and _PAGES.fullmatch(scope["path"]) is not None


def cookie_name(request: HTTPConnection) -> str:
    """Return the name of the cookie for the port that the browser used."""
    port = _PORT.search(request.headers.get("host", ""))
    return f"parallel_hpo_{port[1] if port else 'default'}"


def wants_html(scope: Scope) -> bool:
    """Say whether it is a person's browser that asks."""
    reads = scope["method"] in ("GET", "HEAD")
    return reads and "text/html" in HTTPConnection(scope).headers.get("accept", "")


def closed() -> Response:
    """Return the page for who has no pass."""
    return answers.html("closed.html", 401)


def _way_on(request: HTTPConnection) -> Response:
    """Return the way to the same address without the ticket, under whatever name the browser knows us."""
    left = [(name, value) for name, value in parse_qsl(request.url.query) if name != keys.PARAMETER]
    path = request.url.path  # a page's: it doesn't begin with `//`, which would be another host
    response = RedirectResponse(f"{path}?{urlencode(left)}" if left else path, 303)
    return answers.guarded(response)


class LocalConnections:
    """Tells a user's own connections from those of others; any thread may ask."""

    def __init__(
        self,
        *,
        lists: tuple[Path, ...] = _LISTS,
        own: Callable[[], int] = os.getuid,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lists = lists
        self._own = own
        self._clock = clock
        self._known: OrderedDict[tuple[int, int], tuple[float, bool]] = OrderedDict()

    def is_strangers(self, scope: Scope) -> bool:
        """Say whether a connection is another user's of this machine; False where that can't be known."""
        client, server = scope.get("client"), scope.get("server")
        if not client or not server or server[1] is None or not _is_loopback(client[0]):
            return False
        pair, now = (int(client[1]), int(server[1])), self._clock()
        told = self._known.get(pair)
        if told is None or now - told[0] > _REMEMBERED_S:
            told = now, any(owner not in (self._own(), _ROOT) for owner in self._owners(*pair))
            self._known[pair] = told
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return told[1]

    def _owners(self, client_port: int, server_port: int) -> Iterator[int]:
        """Yield the owners of the sockets that lead from one port to the other, on whichever address."""
        ends = f":{client_port:04X}", f":{server_port:04X}"
        for path in self._lists:
            try:
                listed = path.read_text()
            except OSError:
                continue  # no Linux
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
