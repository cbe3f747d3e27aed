"""What a program said last on its stderr, so that a failure's reason tells more than an exit code.

A Python program's exception with all lines of its message, else its last line; what
wandb says at the end of a run is passed over.
"""

from __future__ import annotations

import os
import re
import threading
from typing import Final

TRACEBACK: Final = "Traceback (most recent call last):"
KEPT_BYTES: Final = 16384
"""Room for the message of a CUDA error below a deep traceback's last frames."""
WORDS_LENGTH: Final = 500
DRAIN_LIMIT_S: Final = 1.0
"""A child that the program left may hold its stderr open; it is killed after the run."""
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


class Overheard:
    """A pipe to be a program's stderr, all of which goes on to our own at once; a thread of its own."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self._tail = b""
        self._thread = threading.Thread(target=self._pass_on, args=(reader,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of our end, once the program has its own."""
        os.close(self.writer)

    def words(self) -> str:
        """Return what the program, which has ended, said last."""
        self._thread.join(DRAIN_LIMIT_S)
        return last_words(self._tail.decode(errors="replace"))

    def _pass_on(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65536):
                self._tail = (self._tail + chunk)[-KEPT_BYTES:]
                while chunk:
                    chunk = chunk[os.write(2, chunk) :]


def last_words(text: str) -> str:
    """Return in one line why a program failed, as the end of its stderr has it; '' where it says nothing."""
    lines = [line for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith("wandb: ")]
    if TRACEBACK not in own:
        return _shortened(own[-1:])
    block = own[len(own) - own[::-1].index(TRACEBACK) :]
    while block and block[0].startswith(" "):  # frames: files, source, markers
        del block[0]
    return _shortened(block)


def _shortened(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())[:WORDS_LENGTH]
