"""Settings of the server's process: a clock that notices steps, threads, garbage collection, and the log.

Last contacts are stored by the time of day, which all servers of a database share. The clock compares it with
the monotonic clock, so that a step, or the machine's sleep, doesn't count as silence.
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
"""Minimum step of the clock in seconds; slewing changes at most 0.5 ms a second."""


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
        """Return when the clock was last set; 0: never since this process began."""
        return self._set_at


_TURN_S: Final = 0.0005
"""Switch interval in seconds: a heartbeat releases the interpreter about fifty times, and each time may wait
for a query."""


def disable_gc_while_loading() -> None:
    """Turn off garbage collection during imports: it takes a sixth of the time and finds hardly anything."""
    gc.disable()


def make_threads_switch_often() -> None:
    """Shorten the switch interval and turn garbage collection on; call it once everything is loaded."""
    sys.setswitchinterval(_TURN_S)
    exclude_present_from_gc()
    gc.enable()


def exclude_present_from_gc() -> None:
    """Exclude all present objects from garbage collection, which would block all threads for 0.1 s."""
    gc.freeze()


MAX_LINES: Final = 10
"""Maximum number of log lines from one statement in a period."""
PERIOD_S: Final = 60.0
"""The period, in seconds."""


@dataclass(slots=True)
class _Count:
    since: float
    lines: int = 0


class LogQuota(logging.Filter):
    """A handler's filter: at most `max_lines` lines per log statement in `period_s` seconds.

    Requests from outside can't fill the disk. The last line passed says that more follow, and the first one
    of the next period how many were dropped.
    """

    def __init__(
        self,
        *,
        max_lines: int = MAX_LINES,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._max_lines = max_lines
        self._period_s = period_s
        self._clock = clock
        self._counts: dict[tuple[str, int], _Count] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written; it may get a note on dropped ones."""
        now = self._clock()
        statement = (record.pathname, record.lineno)
        count = self._counts.setdefault(statement, _Count(now))
        if now - count.since >= self._period_s:
            dropped = max(0, count.lines - self._max_lines)
            count = self._counts[statement] = _Count(now)
            if dropped:
                _add(record, f"{dropped} more like this were left out before it")
        count.lines += 1
        if count.lines == self._max_lines:
            _add(record, f"more like this are left out for {self._period_s - (now - count.since):.0f} s")
        return count.lines <= self._max_lines


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
