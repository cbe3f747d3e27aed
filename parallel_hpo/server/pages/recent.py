"""Answers that several open pages share: whoever asks the same soon after another is told the same."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

_KEPT: Final = 32


@dataclass(slots=True)
class _Answer:
    made_at: float = float("-inf")
    body: bytes = b""
    lock: Lock = field(default_factory=Lock)


class Recent:
    """The answers of the last `fresh_s` seconds; any thread may ask."""

    def __init__(self, fresh_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_s = fresh_s
        self._clock = clock
        self._known: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._lock = Lock()

    def answer(self, question: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return what `make` returned lately, or returns now: once for all who ask at the same time."""
        known = self._of(question)
        with known.lock:
            now = self._clock()  # before it is made: it is not newer than that
            if now - known.made_at >= self._fresh_s:
                known.body = make()
                known.made_at = now
            return known.body

    def _of(self, question: Hashable) -> _Answer:
        with self._lock:
            known = self._known.setdefault(question, _Answer())
            self._known.move_to_end(question)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return known
