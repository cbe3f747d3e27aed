"""The display of a sweep on a terminal, or in a file if stderr is redirected.

    any thread ── notice ──▶ queue ──▶ one writer thread ──▶ screen

Callers never wait for the terminal, so a stopped, broken or closed one doesn't delay the sweep.
"""

from __future__ import annotations

import io
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, Self, TextIO, TypeVar, cast

from parallel_hpo.core.notices import Notice, OutputLine
from parallel_hpo.display.screen import OpenConsole, Screen
from parallel_hpo.display.text import Varied, Verbosity

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult

LAST_WORDS_S: Final = 2.0
"""Maximum wait at the end for a terminal or notebook that accepts no output, in seconds."""
Step = TypeVar("Step")


class SteadyStream(io.TextIOBase):
    """A stream that never raises: after the first failed write it stays silent."""

    def __init__(self, stream: TextIO | None) -> None:
        """Wrap a stream; None for one that was closed before Python started."""
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

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return super().fileno() if self._stream is None else self._stream.fileno()

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
            return  # drop this text only: the terminal is slow, or lacks a character
        except (OSError, ValueError):  # ValueError: closed
            self._stream = None


class Writer(ABC, Generic[Step]):
    """Performs steps in a thread of its own; any thread may put them into `_steps`. A context manager."""

    def __init__(self, name: str) -> None:
        """Create the thread `name`."""
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
"""Time between two refreshes of a live display, in seconds."""
_WAITING_LINES: Final = 10_000
"""Maximum number of queued steps; further output is not shown, but in the logs."""

_Step = Callable[[Screen], None]


class Terminal(Writer[_Step]):
    """Shows notices and the result; a context manager, callable from any thread."""

    def __init__(
        self,
        stream: TextIO | None,
        *,
        verbosity: Verbosity = Verbosity.NORMAL,
        varied: Varied = None,
    ) -> None:
        """Show on `stream`; `varied`: names of parameters to show."""
        super().__init__("parallel_hpo terminal")
        steady = SteadyStream(stream)
        # Not in a notebook's cells: another thread can't write there.
        console = OpenConsole(file=cast(TextIO, steady), stderr=True, force_jupyter=False)
        self._live = steady.isatty() and not console.is_dumb_terminal and verbosity is not Verbosity.QUIET
        self._screen = Screen(
            console,
            live=self._live,
            verbosity=verbosity,
            varied=varied,
            clock=time.monotonic,
        )
        self._dropped = 0
        self._dropping = threading.Lock()

    @property
    def shows_memory(self) -> bool:
        """Whether workers have rows, which show their memory."""
        return self._live

    def __call__(self, notice: Notice) -> None:
        """Queue a notice; lines that the terminal is too slow for are counted and dropped."""
        if isinstance(notice, OutputLine) and self._steps.qsize() >= _WAITING_LINES:
            with self._dropping:
                self._dropped += 1
            return
        self._steps.put(lambda screen: screen.show(notice))

    def conclude(self, result: SweepResult, *, go_on: str = "") -> None:
        """Queue the result, shown last; `go_on`: the command that resumes an incomplete sweep."""
        self._steps.put(lambda screen: screen.conclude(result, go_on))

    def _write(self) -> None:
        """Perform the steps until the end, and refresh a live display at each tick."""
        due_s = time.monotonic()
        while True:
            try:
                step = self._steps.get(timeout=max(0.0, due_s - time.monotonic()) if self._live else None)
            except queue.Empty:
                pass
            else:
                if step is None:
                    break
                step(self._screen)
            if self._steps.empty():
                self._report_dropped()
            if time.monotonic() >= due_s:
                self._screen.refresh()
                due_s = time.monotonic() + _TICK_S
        self._report_dropped()
        self._screen.close()

    def _report_dropped(self) -> None:
        """Show how many lines were dropped."""
        with self._dropping:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._screen.say(f"{dropped} lines of output not shown here; the workers' logs have them")
