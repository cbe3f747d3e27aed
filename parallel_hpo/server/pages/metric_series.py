"""Curves: numbers picked out of lines of JSON, two of each line, and cut down to what a screen shows. Pure.

A line that holds no object within its own, and nothing escaped, needs no parser: each quote in it begins or
ends a text, so what stands between two and before a colon is one of its keys. So most lines of histories are,
and a pattern reads them ten times as fast.

What runs logged under a key, as pages have read it: of a run that goes on only the rest is read again.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress, takewhile
from math import isfinite
from threading import Event, Lock
from typing import Any, Final

from parallel_hpo.core.values import lookup
from parallel_hpo.server.store import lines
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Stream

Pairs = tuple[list[float], list[float]]
_NUMBER: Final = r"(-?\d[\d.eE+-]*)"
_DECODER: Final = json.JSONDecoder()


def picked(text: str, count: int, over: str, name: str) -> Pairs:
    """Return the numbers `over` and `name` of `count` lines, in their order; lines that lack one give none.

    Some may be infinite: an exponent may have any length.
    """
    if text.count("{") == count and "\\" not in text and text.count("\n") == count - 1:
        return _of_flat(text, count, _pattern(over), _pattern(name))
    pairs = [*_of_any(text, over, name)]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _of_flat(text: str, count: int, over: re.Pattern[str], name: re.Pattern[str]) -> Pairs:
    xs, ys = over.findall(text), name.findall(text)
    if not len(xs) == len(ys) == count:  # some lack one, and which belong together is to be seen line by line
        both = [(x, y) for line in text.split("\n") if (y := name.search(line)) and (x := over.search(line))]
        xs, ys = [x[1] for x, _ in both], [y[1] for _, y in both]
    return [*map(float, xs)], [*map(float, ys)]


def _of_any(text: str, over: str, name: str) -> Iterator[tuple[float, float]]:
    place, end = 0, len(text)
    while place < end:
        line, place = _DECODER.raw_decode(text, place)  # where a line ends only a parser knows
        place += 1
        x, y = _number(lookup(line, over)), _number(lookup(line, name))
        if x is not None and y is not None:
            yield x, y


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None  # an integer may have any length


@lru_cache(64)
def _pattern(key: str) -> re.Pattern[str]:
    return re.compile(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:\s*" + _NUMBER)


def _none() -> array[float]:
    return array("d")


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in their order; both have as many numbers."""

    x: array[float] = field(default_factory=_none)
    y: array[float] = field(default_factory=_none)


def reduced(curve: Curve, most: int) -> Curve:
    """Return at most `most` (at least 4) points, in their order: of each bin the lowest and the highest.

    The first and the last one are among them.
    """
    x, y = curve.x, curve.y
    if len(y) <= most:
        return curve
    width = -(-len(y) // (max(4, most) // 2 - 1))  # two points are the ends' room
    kept = {0, len(y) - 1}
    for begin in range(0, len(y), width):
        heights = y[begin : begin + width].tolist()
        kept.add(begin + heights.index(min(heights)))
        kept.add(begin + heights.index(max(heights)))
    places = sorted(kept)
    return Curve(array("d", [x[place] for place in places]), array("d", [y[place] for place in places]))


_MOST_POINTS: Final = 1_000_000
"""So many are kept in mind, 16 bytes each."""
_POINTS_OF_NONE: Final = 50
"""A course without a point takes as much memory as one with so many."""


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Which number of each line, and which one it stands over: both are names in the line."""

    stream: Stream
    name: str
    over: str


class MetricSeriesCache:
    """The courses of runs that were asked for last; any thread may ask."""

    def __init__(self, most_points: int = _MOST_POINTS) -> None:
        self._most_points = most_points
        self._known: OrderedDict[tuple[int, SeriesKey, int], _MetricSeries] = OrderedDict()
        self._lock = Lock()
        self._closed = Event()

    def close(self) -> None:
        """Have what is being read end soon, with whatever was found."""
        self._closed.set()

    def read(self, transaction: Transaction, strides: Mapping[int, int], wanted: SeriesKey) -> list[Curve]:
        """Return a curve of each run; `strides`: of how many lines one is read.

        Lines that lack either, or have no finite number there, are left out.
        """
        found = [self._of(run_id, wanted, stride).now(transaction) for run_id, stride in strides.items()]
        self._forget_some()
        return found

    def _of(self, run_id: int, wanted: SeriesKey, stride: int) -> _MetricSeries:
        key = (run_id, wanted, stride)
        with self._lock:
            course = self._known.setdefault(key, _MetricSeries(*key, self._closed))
            self._known.move_to_end(key)
            return course

    def _forget_some(self) -> None:
        """Forget what nobody has asked for lately, where it is too much."""
        with self._lock:
            points = sum(course.size for course in self._known.values())
            while points > self._most_points:
                points -= self._known.popitem(last=False)[1].size


@dataclass(slots=True)
class _MetricSeries:
    """What is known of one run's; `last`: the last line that was read, and its number."""

    run_id: int
    wanted: SeriesKey
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
