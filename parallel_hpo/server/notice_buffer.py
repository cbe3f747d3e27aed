"""Notices from nodes for a pool's watchers: in memory, bounded, lost with the process."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

MAX_NOTICES: Final = 5000
"""Maximum number of notices kept per sweep; older ones are dropped."""
BYTES_PER_S: Final = 64 * 1024
"""Maximum rate of one node's notices, in bytes per second; enough for a screen, and for a thousand nodes."""
MAX_NOTICE_BYTES: Final = 16 * 1024
"""Maximum size of a notice in bytes; a longer one is dropped, since all must fit into memory."""
BURST_S: Final = 10.0
"""Time for which a silent node saves up its unused rate, in seconds."""

Notice = tuple[int, int, Mapping[str, Any]]
"""(number, epoch, notice)."""


@dataclass
class _NodeBudget:
    """The bytes that a node may send, and when they were counted."""

    room: float
    at: float


@dataclass
class _SweepNotices:
    """A sweep's notices, newest last."""

    number: int = 0
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=MAX_NOTICES))
    budgets: dict[int, _NodeBudget] = field(default_factory=dict)


class NoticeBuffer:
    """Keeps notices until the coordinator has read them; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_sweep: dict[str, _SweepNotices] = {}

    def post(self, sweep: str, epoch: int, notices: Sequence[Mapping[str, Any]], now: float) -> None:
        """Add a node's notices as far as its rate allows; `now` in seconds."""
        if not notices:
            return
        with self._lock:
            stored = self._by_sweep.setdefault(sweep, _SweepNotices())
            budget = stored.budgets.setdefault(epoch, _NodeBudget(BYTES_PER_S * BURST_S, now))
            gained = max(0.0, now - budget.at) * BYTES_PER_S
            budget.room, budget.at = min(BYTES_PER_S * BURST_S, budget.room + gained), now
            for notice in notices:
                size = len(json.dumps(notice))
                if size <= min(budget.room, MAX_NOTICE_BYTES):
                    budget.room -= size
                    stored.number += 1
                    stored.notices.append((stored.number, epoch, notice))

    def after(self, sweep: str, number: int) -> tuple[tuple[Notice, ...], int]:
        """Return a sweep's notices after a number, and the last number; all, for an unknown number."""
        with self._lock:
            stored = self._by_sweep.get(sweep)
            if stored is None:
                return (), 0
            since = number if number <= stored.number else 0
            return tuple(notice for notice in stored.notices if notice[0] > since), stored.number

    def forget(self, sweep: str) -> None:
        """Drop a sweep's notices."""
        with self._lock:
            self._by_sweep.pop(sweep, None)
