"""Asks the sweep's server how far a program's runs are: a worker can't see what another process logs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from parallel_hpo.core.errors import ParallelHPOError
from parallel_hpo.core.messages import Progress
from parallel_hpo.core.types import Slot

EVERY_S: Final = 2.0
"""Time between two requests, in seconds; each reads the summaries of the runs under way."""
REST: Final = 50
"""Minimum time between two requests, as a multiple of the duration of the last one."""


class ProgramSteps(threading.Thread):
    """Reports the progress of runs in a thread of its own; for displays with rows of workers only."""

    def __init__(
        self,
        ask: Callable[[], Sequence[tuple[Slot, Progress]]],
        tell: Callable[[Slot, Progress], None],
        *,
        every_s: float = EVERY_S,
    ) -> None:
        super().__init__(name="parallel_hpo-program_steps", daemon=True)
        self._ask = ask
        self._tell = tell
        self._every_s = every_s
        self._closing = threading.Event()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()

    def run(self) -> None:
        """Report what has changed until `close`; a server that doesn't answer is asked again."""
        known: dict[Slot, Progress] = {}
        pause_s = self._every_s
        while not self._closing.wait(pause_s):
            began = time.monotonic()
            with suppress(ParallelHPOError):
                for slot, progress in self._ask():
                    if known.get(slot) != progress and not self._closing.is_set():
                        known[slot] = progress
                        self._tell(slot, progress)
            pause_s = max(self._every_s, REST * (time.monotonic() - began))
