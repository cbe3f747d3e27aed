"""A log that what comes from outside can't fill the disk with: so many lines of a kind in a while.

The last line that is let through says that more are left out, the first one of the next
while how many were. A kind is the place in the program that logs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MOST: Final = 10
WHILE_S: Final = 60.0


@dataclass(slots=True)
class _Tally:
    since: float
    lines: int = 0


class Quota(logging.Filter):
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
    handler.addFilter(Quota())
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", handlers=[handler]
    )


def _add(record: logging.LogRecord, words: str) -> None:
    record.msg = f"{record.getMessage()} ({words})"
    record.args = None
