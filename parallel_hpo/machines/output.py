"""The output of a process: passed on, and its end kept, so that an error can say what came last."""

from __future__ import annotations

import os
import threading
from typing import IO, Final

KEPT_BYTES: Final = 2000
"""Enough for an error's message, and few enough for any pipe."""
PATIENCE_S: Final = 1.0
"""For the last output, after the death of all that could write any."""


class KeptOutput:
    """Reads until the end, in a thread."""

    def __init__(self, source: IO[bytes], passed_on_to: int | None = None) -> None:
        """`passed_on_to` is a file descriptor; None: nobody sees it."""
        self._source = source
        self._target = passed_on_to
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def last_words(self) -> str:
        """Return the end of it; called when nothing can come any more."""
        self._thread.join(PATIENCE_S)
        return self._kept.decode(errors="replace").strip()

    def _read(self) -> None:
        with self._source:
            while some := os.read(self._source.fileno(), 4096):
                self._kept = (self._kept + some)[-KEPT_BYTES:]
                self._pass_on(some)

    def _pass_on(self, some: bytes) -> None:
        try:
            _ = self._target is not None and os.write(self._target, some)
        except OSError:
            self._target = None  # nobody reads it any more; the writer must not stand still for that
