"""Detects other users of devices, in a thread, as a driver or logind may be slow.

A user at this machine is detected by logind, or else by the terminals. A session on a seat counts while it
is in front, not locked, and not idle by its desktop. Users over the network count only by their processes on
a device.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

import psutil

from parallel_hpo.core.periodic import PeriodicThread
from parallel_hpo.devices.library import DeviceProcess
from parallel_hpo.devices.sharing import OtherUsersSeen

IDLE_S: Final = 300.0
"""Idle timeout of a terminal after the last key, in seconds; desktops have about the same."""
ASK_LIMIT_S: Final = 5.0
_PROPERTIES: Final = ("Name", "Seat", "State", "Class", "IdleHint", "LockedHint")

Ask = Callable[..., str | None]
"""Calls `loginctl` with arguments, and returns its output; None if there is none."""

LOOK_EVERY_S: Final = 2.0
"""Poll interval in seconds; a returning user waits no longer than for a program's start."""


class DeviceUsers:
    """Finds the other users of one sweep's devices, by the devices' names."""

    def __init__(
        self,
        names: Iterable[str],
        processes: Callable[[str], Iterable[DeviceProcess]],
        *,
        is_foreign: Callable[[int], bool],
        who_is_there: Callable[[], str],
    ) -> None:
        """`processes` returns the processes on a device; the present ones are not ours."""
        self._names = tuple(names) or ("",)
        self._processes = processes
        self._is_foreign = is_foreign
        self._who_is_there = who_is_there
        self._before_us = {each.pid for name in self._names for each in processes(name)}

    def look(self) -> dict[str, str]:
        """Return the other user of each device in words, without free devices."""
        there = self._who_is_there()
        found = {name: there or self._who_computes(name) for name in self._names}
        return {name: who for name, who in found.items() if who}

    def _who_computes(self, name: str) -> str:
        pids = [str(each.pid) for each in self._processes(name) if self._is_others(each.pid)]
        return f"process {', '.join(pids)} computes on it" if pids else ""

    def _is_others(self, pid: int) -> bool:
        if psutil.pid_exists(pid):
            return self._is_foreign(pid)
        # Within a container the driver may use ids of another pid namespace, also for our processes.
        return pid in self._before_us


class UserWatch(PeriodicThread):
    """Reports changes of the devices' other users."""

    def __init__(
        self,
        look: Callable[[], Mapping[str, str]],
        tell: Callable[[OtherUsersSeen], None],
        *,
        seen: Mapping[str, str],
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`seen` are the users known at the start."""
        super().__init__("users", every_s=every_s)
        self._find = look
        self._tell = tell
        self._seen = dict(seen)

    def look(self) -> None:
        seen = dict(self._find())
        if seen != self._seen and not self.closing.is_set():
            self._seen = seen
            self._tell(OtherUsersSeen(seen))


def ask_logind(*words: str, limit_s: float = ASK_LIMIT_S) -> str | None:
    """Return the output of `loginctl`; None without logind, or without an answer in time."""
    try:
        done = subprocess.run(
            ["loginctl", *words], capture_output=True, text=True, timeout=limit_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def who_is_there(ask: Ask = ask_logind) -> str:
    """Return the user at this machine in words, or ''."""
    listed = ask("list-sessions", "--no-legend")
    if listed is None:
        return at_a_terminal(psutil.users(), time.time())
    asked = [word for name in _PROPERTIES for word in ("-p", name)]
    for line in filter(str.strip, listed.splitlines()):
        session = _read(ask("show-session", line.split()[0], *asked) or "")
        if _is_active(session):
            return f"the session of {session['Name']} is active"
    return ""


class Login(Protocol):
    """A login of a user."""

    @property
    def name(self) -> str: ...

    @property
    def terminal(self) -> str | None: ...

    @property
    def host(self) -> str | None:
        """Return the remote host; '' or None: a local login."""


def at_a_terminal(users: Iterable[Login], now: float) -> str:
    """Return the user with recent input on a local terminal in words, or ''."""
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
    """Return the time of the last input, in seconds since the epoch; 0 if unknown."""
    try:
        return terminal.stat().st_atime
    except OSError:
        return 0.0
