"""A text stream that never raises: a closed or broken terminal must not end a sweep."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TextIO


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
