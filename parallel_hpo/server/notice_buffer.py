"""What the nodes of pools tell those who watch: kept in memory, bounded, and gone with the process."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

MOST: Final = 5000
"""So many notices of a sweep are kept for a head that is slow; older ones are lost."""
BYTES_A_SECOND: Final = 64 * 1024
"""What one node may tell in a second: a screen shows less, and a thousand nodes bear it."""
LONGEST_BYTES: Final = 16 * 1024
"""A longer notice is dropped: all that are kept must fit into memory."""
BURST_S: Final = 10.0
"""A node that was silent for so long, cut off or quiet, may tell as much as it had room for since."""

Notice = tuple[int, int, Mapping[str, Any]]
"""(number, epoch, notice)."""


@dataclass
class _NodeBudget:
    """How many bytes a node may tell now, and when that was reckoned."""

    room: float
    at: float


@dataclass
class _SweepNotices:
    """A sweep's notices, the newest last."""

    number: int = 0
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=MOST))
    speakers: dict[int, _NodeBudget] = field(default_factory=dict)


class NoticeBuffer:
    """Keeps what nodes tell until the head has asked for it; from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sheets: dict[str, _SweepNotices] = {}

    def post(self, sweep: str, epoch: int, notices: Sequence[Mapping[str, Any]], now: float) -> None:
        """Keep what a node tells, as far as it has room; `now` in seconds."""
        if not notices:
            return
        with self._lock:
            sheet = self._sheets.setdefault(sweep, _SweepNotices())
            speaker = sheet.speakers.setdefault(epoch, _NodeBudget(BYTES_A_SECOND * BURST_S, now))
            gained = max(0.0, now - speaker.at) * BYTES_A_SECOND
            speaker.room, speaker.at = min(BYTES_A_SECOND * BURST_S, speaker.room + gained), now
            for notice in notices:
                size = len(json.dumps(notice))
                if size <= min(speaker.room, LONGEST_BYTES):
                    speaker.room -= size
                    sheet.number += 1
                    sheet.notices.append((sheet.number, epoch, notice))

    def after(self, sweep: str, number: int) -> tuple[tuple[Notice, ...], int]:
        """Return a sweep's notices after a number, and the last one's; all, where the number is not ours."""
        with self._lock:
            sheet = self._sheets.get(sweep)
            if sheet is None:
                return (), 0
            since = number if number <= sheet.number else 0
            return tuple(notice for notice in sheet.notices if notice[0] > since), sheet.number

    def forget(self, sweep: str) -> None:
        """Drop a sweep's notices."""
        with self._lock:
            self._sheets.pop(sweep, None)
