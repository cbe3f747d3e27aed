"""Who may keep a connection open without a request on it. Pure.

    enters ─▶ stranger ─▶ busy ─▶ known, where its request had a key ─▶ busy ─▶ …
                  ▲         └──▶ stranger again, where it had none

Where there are too many, one has to go: the stranger that came first, else the known one
that has been silent longest. So nobody keeps out whoever has a key by only connecting.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Guest = TypeVar("Guest")


class Lobby(Generic[Guest]):
    """The open connections, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Dicts keep the order in which their keys came.
        self._strangers: dict[Guest, None] = {}
        self._known: dict[Guest, None] = {}
        self._busy: set[Guest] = set()

    def enter(self, guest: Guest) -> Guest | None:
        """Let one in, and return the one that has to go for it, if any."""
        self._strangers[guest] = None
        if len(self._strangers) + len(self._known) + len(self._busy) <= self._most:
            return None
        leaving = self._to_go(guest)
        self.leave(leaving)
        return leaving

    def _to_go(self, newest: Guest) -> Guest:
        silent = (guest for guests in (self._strangers, self._known) for guest in guests)
        return next((guest for guest in silent if guest is not newest), newest)

    def begin(self, guest: Guest) -> None:
        """It has sent a request."""
        self.leave(guest)
        self._busy.add(guest)

    def end(self, guest: Guest, *, had_key: bool) -> None:
        """Its request is answered."""
        self.leave(guest)
        (self._known if had_key else self._strangers)[guest] = None

    def leave(self, guest: Guest) -> None:
        """It is closed, or about to be."""
        self._strangers.pop(guest, None)
        self._known.pop(guest, None)
        self._busy.discard(guest)
