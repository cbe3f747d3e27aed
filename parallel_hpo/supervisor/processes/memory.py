"""What each worker's process tree holds in memory, for whoever watches: looked at by a thread of its own.

A limit of memory is the loop's business, which looks twice a second. Here it is worth a fiftieth of a
core at the most: reading how a large process's pages are shared takes milliseconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from parallel_hpo.words import Slot
from parallel_hpo.worker import tree

LOOK_EVERY_S: Final = 2.0
REST: Final = 50
"""After a round, so many times as long as it took passes at least before the next one."""


class MemoryWatch(threading.Thread):
    """Tells of each slot's worker, in MB of 2**20 bytes, in turn."""

    def __init__(
        self,
        tell: Callable[[Slot, float], None],
        *,
        used_mb: Callable[[int], float] = tree.used_mb,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        super().__init__(name="parallel_hpo-memory", daemon=True)
        self._tell = tell
        self._used_mb = used_mb
        self._every_s = every_s
        self._pids: dict[Slot, int] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def add(self, slot: Slot, pid: int) -> None:
        """Look at this process as the slot's worker."""
        with self._lock:
            self._pids[slot] = pid

    def remove(self, slot: Slot) -> None:
        """Look at none in this slot."""
        with self._lock:
            self._pids.pop(slot, None)

    def close(self) -> None:
        """End the thread."""
        self._closing.set()

    def run(self) -> None:
        pause_s = self._every_s
        while not self._closing.wait(pause_s):
            began = time.monotonic()
            with self._lock:
                pids = dict(self._pids)
            for slot, pid in pids.items():
                if self._closing.is_set():
                    return
                if used := self._used_mb(pid):
                    self._tell(slot, used)
            pause_s = max(self._every_s, REST * (time.monotonic() - began))
