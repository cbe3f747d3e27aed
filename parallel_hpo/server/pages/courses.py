"""What runs logged under a key, as pages have read it: of a run that goes on only the rest is read again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import compress, takewhile
from math import isfinite
from threading import Event, Lock
from typing import Final

from parallel_hpo.server.pages.curves import Curve, picked
from parallel_hpo.server.store import lines
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Stream

_MOST_POINTS: Final = 1_000_000
"""So many are kept in mind, 16 bytes each."""
_POINTS_OF_NONE: Final = 50
"""A course without a point takes as much memory as one with so many."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which number of each line, and which one it stands over: both are names in the line."""

    stream: Stream
    name: str
    over: str


class Courses:
    """The courses of runs that were asked for last; any thread may ask."""

    def __init__(self, most_points: int = _MOST_POINTS) -> None:
        self._most_points = most_points
        self._known: OrderedDict[tuple[int, Wanted, int], _Course] = OrderedDict()
        self._lock = Lock()
        self._closed = Event()

    def close(self) -> None:
        """Have what is being read end soon, with whatever was found."""
        self._closed.set()

    def read(self, transaction: Transaction, strides: Mapping[int, int], wanted: Wanted) -> list[Curve]:
        """Return a curve of each run; `strides`: of how many lines one is read.

        Lines that lack either, or have no finite number there, are left out.
        """
        found = [self._of(run_id, wanted, stride).now(transaction) for run_id, stride in strides.items()]
        self._forget_some()
        return found

    def _of(self, run_id: int, wanted: Wanted, stride: int) -> _Course:
        key = (run_id, wanted, stride)
        with self._lock:
            course = self._known.setdefault(key, _Course(*key, self._closed))
            self._known.move_to_end(key)
            return course

    def _forget_some(self) -> None:
        """Forget what nobody has asked for lately, where it is too much."""
        with self._lock:
            points = sum(course.size for course in self._known.values())
            while points > self._most_points:
                points -= self._known.popitem(last=False)[1].size


@dataclass(slots=True)
class _Course:
    """What is known of one run's; `last`: the last line that was read, and its number."""

    run_id: int
    wanted: Wanted
    stride: int
    closed: Event
    last: tuple[int, str] | None = None
    _curve: Curve = field(default_factory=Curve)
    _lock: Lock = field(default_factory=Lock)

    @property
    def size(self) -> int:
        return len(self._curve.x) + _POINTS_OF_NONE

    def now(self, transaction: Transaction) -> Curve:
        """Return what there is now; of a run that was rewound all is read anew."""
        with self._lock:
            if self.last is None or not self._go_on(transaction, *self.last):
                self.last, self._curve = None, Curve()
                self._add(lines.series(transaction, self.run_id, self.wanted.stream, 0, self.stride))
            return self._curve

    def _go_on(self, transaction: Transaction, number: int, line: str) -> bool:
        """Read on from the last line; False where it isn't any more what it was."""
        parts = lines.series(transaction, self.run_id, self.wanted.stream, number, self.stride)
        first = next(parts, None)
        if first is None or not (f"{first.text}\n").startswith(f"{line}\n"):
            return False
        rest = lines.Part(first.text[len(line) + 1 :], first.count - 1, first.last)
        self._add([rest, *parts] if rest.count else parts)
        return True

    def _add(self, parts: Iterable[lines.Part]) -> None:
        """Add points; who was given the curve as it was before keeps that."""
        x, y = self._curve.x[:], self._curve.y[:]
        for part in takewhile(lambda _: not self.closed.is_set(), parts):
            more_x, more_y = picked(part.text, part.count, self.wanted.over, self.wanted.name)
            finite = [isfinite(a) and isfinite(b) for a, b in zip(more_x, more_y, strict=True)]
            x.extend(compress(more_x, finite))
            y.extend(compress(more_y, finite))
            self.last = part.last, part.text.rpartition("\n")[2]
        self._curve = Curve(x, y)
