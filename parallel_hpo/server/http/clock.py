"""The time of day, and when it was last set: nothing has been silent for as long as a clock was moved.

What is heard is kept by the time of day, which all servers of a database share. A step of it shows
as a jump against the monotonic clock, as does the machine's sleep, in which nothing could be heard either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
