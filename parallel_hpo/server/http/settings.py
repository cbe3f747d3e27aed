"""The time of day, and when it was last set: nothing has been silent for as long as a clock was moved.

What is heard is kept by the time of day, which all servers of a database share. A step of it shows
as a jump against the monotonic clock, as does the machine's sleep, in which nothing could be heard either.

How the server's threads share the interpreter, so that heartbeats are answered beside what others list.

A log that what comes from outside can't fill the disk with: so many lines of a kind in a while.

The last line that is let through says that more are left out, the first one of the next
while how many were. A kind is the place in the program that logs.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

STEP_S: Final = 1.0
"""A jump of more than this between two looks is no slewing, which changes 0.5 ms a second at the most."""


class WatchedClock:
    """Call it for the seconds since the epoch."""

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._ahead_s = wall() - monotonic()
        self._set_at = 0.0

    def __call__(self) -> float:
        now = self._wall()
        ahead_s = now - self._monotonic()
        if abs(ahead_s - self._ahead_s) > STEP_S:
            self._set_at = now
        self._ahead_s = ahead_s
        return now

    def set_at(self) -> float:
        """When the clock was last seen to have been set; 0: never since this process began."""
        return self._set_at


_TURN_S: Final = 0.0005
"""A heartbeat gives the interpreter up some fifty times, and may wait for a turn of a query's each time."""


def load_at_one_go() -> None:
    """Look for no garbage while all is loaded: there is hardly any, and to look takes a sixth of the time."""
    gc.disable()


def let_threads_take_turns() -> None:
    """Let no thread wait long for another one; call it once all is loaded."""
    sys.setswitchinterval(_TURN_S)
    never_look_through_what_is_there()
    gc.enable()


def never_look_through_what_is_there() -> None:
    """Take all that there is for what stays: to look through it takes 0.1 s, for which all threads wait."""
    gc.freeze()


MOST: Final = 10
WHILE_S: Final = 60.0


@dataclass(slots=True)
class _Tally:
    since: float
    lines: int = 0


class LogQuota(logging.Filter):
    """Lets `most` lines of each kind through in each `while_s` seconds; a filter of a handler."""

    def __init__(
        self, *, most: int = MOST, while_s: float = WHILE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._most = most
        self._while_s = while_s
        self._clock = clock
        self._tallies: dict[tuple[str, int], _Tally] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line is written, with what is to be said of those that are not."""
        now = self._clock()
        kind = (record.pathname, record.lineno)
        tally = self._tallies.setdefault(kind, _Tally(now))
        if now - tally.since >= self._while_s:
            left_out = max(0, tally.lines - self._most)
            tally = self._tallies[kind] = _Tally(now)
            if left_out:
                _add(record, f"{left_out} more like this were left out before it")
        tally.lines += 1
        if tally.lines == self._most:
            _add(record, f"more like this are left out for {self._while_s - (now - tally.since):.0f} s")
        return tally.lines <= self._most


def log_to_stderr() -> None:
    """Write warnings and errors to standard error, within the quota."""
    handler = logging.StreamHandler()
    handler.addFilter(LogQuota())
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", handlers=[handler]
    )


def _add(record: logging.LogRecord, words: str) -> None:
    record.msg = f"{record.getMessage()} ({words})"
    record.args = None
