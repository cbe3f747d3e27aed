"""Whose process is at the other end of a connection from this machine itself, where the system tells.

So neither a ticket that is overheard (command lines are for all to see) nor a cookie (browsers send it to
other ports too) is of use to another user of the machine. Linux lists the owner of each socket.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from starlette.types import Scope

_LISTS: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_REMEMBERED_S: Final = 5.0
_MOST: Final = 1000
_ROOT: Final = 0
"""Forwards ports for others, and may read everything anyway."""


class Peers:
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
