"""A thread that looks at something every few seconds."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable


class PeriodicThread(threading.Thread):
    """Calls `look` every few seconds until it is closed. A subclass tells nothing once `closing` is set."""

    def __init__(
        self, name: str, *, every_s: float, rest: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Keep the arguments; `start` starts the thread.

        Args:
            every_s: minimum pause in seconds before each look.
            rest: minimum pause as a multiple of the duration of the last look.
            clock: gives monotonic seconds.
        """
        super().__init__(name=f"parallel_hpo-{name}", daemon=True)
        self.closing = threading.Event()
        self._every_s = every_s
        self._rest = rest
        self._clock = clock

    def close(self) -> None:
        """End the thread."""
        self.closing.set()

    def run(self) -> None:
        pause_s = self._every_s
        while not self.closing.wait(pause_s):
            began = self._clock()
            self.look()
            pause_s = max(self._every_s, self._rest * (self._clock() - began))

    @abstractmethod
    def look(self) -> None:
        """Look, and tell what is new."""
