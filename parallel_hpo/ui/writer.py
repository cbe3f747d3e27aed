"""A thread that shows things in order, so that whoever has something to show never waits for a screen."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

LAST_WORDS_S: Final = 2.0
"""So long the end waits for a terminal, or a notebook, that doesn't take what it is given."""
Step = TypeVar("Step")


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
