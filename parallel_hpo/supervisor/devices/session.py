"""Whether somebody sits at this machine: as logind knows it, else by the terminals.

A session on a seat counts while it is in front, not locked, and its desktop does not call it idle.
Who is there over the network does not count: what they compute on a device is seen there.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

import psutil

IDLE_S: Final = 300.0
"""So long after the last key a terminal counts as left; desktops wait about as long."""
ASK_LIMIT_S: Final = 5.0
_PROPERTIES: Final = ("Name", "Seat", "State", "Class", "IdleHint", "LockedHint")

Ask = Callable[..., str | None]
"""Calls `loginctl` with these words, and returns what it says; None where there is none to be asked."""


def ask_logind(*words: str) -> str | None:
    """Return what `loginctl` says; None: there is no logind here."""
    try:
        done = subprocess.run(
            ["loginctl", *words], capture_output=True, text=True, timeout=ASK_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def who_is_there(ask: Ask = ask_logind, *, now: Callable[[], float] = time.time) -> str:
    """Return who sits at this machine, in words; '' for nobody."""
    listed = ask("list-sessions", "--no-legend")
    if listed is None:
        return at_a_terminal(psutil.users(), now())
    asked = [word for name in _PROPERTIES for word in ("-p", name)]
    for line in filter(str.strip, listed.splitlines()):
        session = _read(ask("show-session", line.split()[0], *asked) or "")
        if _is_active(session):
            return f"the session of {session['Name']} is active"
    return ""


class Login(Protocol):
    """Somebody who is logged in."""

    @property
    def name(self) -> str: ...

    @property
    def terminal(self) -> str | None: ...

    @property
    def host(self) -> str | None:
        """Where from; '' or None: here."""


def at_a_terminal(users: Iterable[Login], now: float) -> str:
    """Return who has just touched a key of one of this machine's own terminals; '' for nobody."""
    for user in users:
        if user.terminal and not user.host and now - _touched_at(Path("/dev", user.terminal)) < IDLE_S:
            return f"{user.name} is at {user.terminal}"
    return ""


def _is_active(session: Mapping[str, str]) -> bool:
    at_seat = bool(session.get("Seat")) and session.get("Class", "").startswith("user")
    in_use = session.get("IdleHint") != "yes" and session.get("LockedHint") != "yes"
    return at_seat and in_use and session.get("State") == "active"


def _read(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in pairs}


def _touched_at(terminal: Path) -> float:
    """Return when it was read from last, in seconds since the epoch; 0: it can't be asked."""
    try:
        return terminal.stat().st_atime
    except OSError:
        return 0.0
