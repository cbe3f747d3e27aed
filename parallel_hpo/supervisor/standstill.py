"""A sweep in which nothing happens, and nothing will, says so: no run is on, and no deadline will come.

It waits then for a word of a worker or of the server that may never come: a fault of ours, or a
server that answers nobody. The supervisor's stacks go into its folder, the workers' into their logs.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from parallel_hpo.notices import Message, Observer
from parallel_hpo.supervisor.decisions.view import SweepView, next_deadline

STILL_S: Final = 120.0
"""Longer than anything takes that is neither a run nor has a deadline of its own."""
STACKS: Final = "supervisor-stacks.log"


class Standstill:
    """Knows when something last happened."""

    def __init__(self, clock: Callable[[], float], observer: Observer, folder: Path) -> None:
        """`clock` gives monotonic seconds; `folder` is the sweep's."""
        self._clock = clock
        self._observer = observer
        self._folder = folder
        self._moved_at = clock()

    def moved(self) -> None:
        """Note that something has happened."""
        self._moved_at = self._clock()

    def due_in_s(self, view: SweepView) -> float | None:
        """Return after how long `look` has something to say, if nothing happens until then; None: never."""
        if next_deadline(view) is not None or any(slot.run is not None for slot in view.slots):
            return None
        if view.grant is not None and not any(slot.busy for slot in view.slots):
            return None  # other machines have what there is
        if view.presence.away and not any(slot.busy for slot in view.slots):
            return None  # the owners of devices have them for as long as they like
        return max(0.0, self._moved_at + STILL_S - self._clock())

    def look(self, view: SweepView) -> bool:
        """Say it where the sweep stands still; True: have the workers write their stacks, too."""
        if self.due_in_s(view) != 0.0:
            return False
        self.moved()
        words = f"nothing has happened for {STILL_S:g} s and no run is on; the stacks of our processes are in"
        self._observer(Message(f"{words} {self._folder / STACKS} and the workers' logs", warning=True))
        # Where that fails (no room, no descriptor), it may be what everything waits for.
        with suppress(OSError), (self._folder / STACKS).open("a") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        return True
