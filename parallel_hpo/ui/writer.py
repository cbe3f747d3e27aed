"""Showing never holds a sweep up nor ends it: a thread shows things in order, by a stream that never raises.

So whoever has something to show never waits for a screen, and a closed or broken terminal harms nothing.
"""

from __future__ import annotations

import io
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Final, Generic, Self, TextIO, TypeVar

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
