"""Asks the sweep's server how far a program's runs are: a worker can't see what another process logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from parallel_hpo.core.errors import ParallelHPOError
from parallel_hpo.core.messages import Progress
from parallel_hpo.core.periodic import PeriodicThread
from parallel_hpo.core.types import Slot

EVERY_S: Final = 2.0
"""Time between two requests, in seconds; each reads the summaries of the runs under way."""
REST: Final = 50
"""Minimum time between two requests, as a multiple of the duration of the last one."""


class ProgramSteps(PeriodicThread):
    """Reports the progress of runs in a thread of its own; for displays with rows of workers only."""

    def __init__(
        self,
        ask: Callable[[], Sequence[tuple[Slot, Progress]]],
        tell: Callable[[Slot, Progress], None],
        *,
        every_s: float = EVERY_S,
    ) -> None:
        super().__init__("program_steps", every_s=every_s, rest=REST)
        self._ask = ask
        self._tell = tell
        self._known: dict[Slot, Progress] = {}

    def look(self) -> None:
        """Report what has changed; a server that doesn't answer is asked again."""
        with suppress(ParallelHPOError):
            for slot, progress in self._ask():
                if self._known.get(slot) != progress and not self.closing.is_set():
                    self._known[slot] = progress
                    self._tell(slot, progress)
