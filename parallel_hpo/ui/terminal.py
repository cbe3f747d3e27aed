"""The observer that shows a sweep on a terminal, or in a file where stderr is none.

    any thread ── notice ──▶ queue ──▶ one writer thread ──▶ screen

Whoever observes never waits for the terminal: one that is stopped, broken or
closed must not hold up the supervisor. Called by `hpo` and `cli`.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TextIO, cast

from rich.console import Console

from parallel_hpo.notices import Notice, OutputLine
from parallel_hpo.ui.screen import Screen
from parallel_hpo.ui.wording import Varied, Verbosity
from parallel_hpo.ui.writer import SteadyStream, Writer

if TYPE_CHECKING:
    from parallel_hpo.supervisor.records.summary import SweepResult

_TICK_S: Final = 0.25
"""How often the time left is drawn anew while nothing happens."""
_WAITING_LINES: Final = 10_000
"""More output than this isn't queued for a terminal that can't keep up; the logs have it all."""

_Step = Callable[[Screen], None]


class Terminal(Writer[_Step]):
    """Shows notices and the result; a context manager, callable from any thread."""

    def __init__(
        self,
        stream: TextIO | None,
        *,
        verbosity: Verbosity = Verbosity.NORMAL,
        varied: Varied = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show on `stream`; `varied` names the parameters worth showing; `clock` in seconds."""
        super().__init__("parallel_hpo terminal")
        steady = SteadyStream(stream)
        # Not in a notebook's cells either: they can't be written from another thread.
        console = Console(file=cast(TextIO, steady), stderr=True, force_jupyter=False)
        self._live = steady.isatty() and not console.is_dumb_terminal and verbosity is not Verbosity.QUIET
        self._screen = Screen(
            console,
            live=self._live,
            verbosity=verbosity,
            varied=varied,
            clock=clock,
            size=lambda: _size(stream, console),
        )
        self._clock = clock
        self._dropped = 0
        self._dropping = threading.Lock()

    @property
    def shows_memory(self) -> bool:
        """Whether there are rows of workers, with their memory."""
        return self._live

    def __call__(self, notice: Notice) -> None:
        """Take a notice, at once; lines beyond what the terminal can show are counted and left out."""
        if isinstance(notice, OutputLine) and self._steps.qsize() >= _WAITING_LINES:
            with self._dropping:
                self._dropped += 1
            return
        self._steps.put(lambda screen: screen.show(notice))

    def conclude(self, result: SweepResult, *, go_on: str = "") -> None:
        """Take the result, to be shown last; `go_on` is what goes on with a sweep that is not complete."""
        self._steps.put(lambda screen: screen.conclude(result, go_on))

    def _write(self) -> None:
        """Perform the steps until the end is asked for, and keep what stands beneath fresh."""
        drawn_s = self._clock()
        while True:
            try:
                step = self._steps.get(timeout=_TICK_S if self._live else None)
            except queue.Empty:
                step = Screen.redraw
            if step is None:
                break
            with self._screen.frame():
                step(self._screen)
                if self._steps.empty() or self._clock() - drawn_s >= _TICK_S:
                    self._own_up()
                    self._screen.redraw()
                    drawn_s = self._clock()
        self._screen.erase()

    def _own_up(self) -> None:
        """Say how many lines were left out."""
        with self._dropping:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._screen.say(f"{dropped} lines of output not shown here; the workers' logs have them")


def _size(stream: TextIO | None, console: Console) -> tuple[int, int]:
    """Return the columns and lines of a terminal as they are now, which COLUMNS does not follow."""
    try:
        columns, lines = os.get_terminal_size(-1 if stream is None else stream.fileno())
    except (OSError, ValueError):  # no terminal; it has no descriptor, or is closed
        columns = lines = 0
    return (columns, lines) if columns and lines else (console.width, console.height)
