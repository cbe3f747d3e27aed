"""Showing never holds a sweep up nor ends it: a thread shows things in order, by a stream that never raises.

So whoever has something to show never waits for a screen, and a closed or broken terminal harms nothing.

The observer that shows a sweep on a terminal, or in a file where stderr is none.

    any thread ── notice ──▶ queue ──▶ one writer thread ──▶ screen

Whoever observes never waits for the terminal: one that is stopped, broken or
closed must not hold up the supervisor. Called by `hpo` and `cli`.
"""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, Self, TextIO, TypeVar, cast

from rich.console import Console

from parallel_hpo.core.notices import Notice, OutputLine
from parallel_hpo.display.screen import Screen
from parallel_hpo.display.text import Varied, Verbosity

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult

LAST_WORDS_S: Final = 2.0
"""So long the end waits for a terminal, or a notebook, that doesn't take what it is given."""
Step = TypeVar("Step")


class SteadyStream(io.TextIOBase):
    """Passes text on to a stream, and goes silent for good once that can't be written any more."""

    def __init__(self, stream: TextIO | None) -> None:
        """Wrap a stream; None stands for one that was closed before Python began."""
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding, by which rich chooses its characters."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def write(self, text: str, /) -> int:
        """Write what can be written."""
        self._attempt(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        self._attempt(lambda stream: stream.flush())

    def _attempt(self, action: Callable[[TextIO], object]) -> None:
        if self._stream is None:
            return
        try:
            action(self._stream)
        except (BlockingIOError, UnicodeEncodeError):
            return  # this text only: the terminal is slow, or lacks a character
        except (OSError, ValueError):  # ValueError: closed
            self._stream = None


class Writer(ABC, Generic[Step]):
    """Performs steps, which any thread may put into `_steps`; a context manager."""

    def __init__(self, name: str) -> None:
        """`name` is the thread's."""
        self._steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._steps.put(None)
        self._writer.join(LAST_WORDS_S)

    @abstractmethod
    def _write(self) -> None:
        """Perform the steps until one is None."""


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
