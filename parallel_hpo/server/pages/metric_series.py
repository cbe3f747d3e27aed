"""Curves of logged metrics: two numbers from each JSON line, reduced to what a screen shows, and a cache.

A line without nested objects and escapes, as most history lines are, needs no parser: each quote begins or
ends a string, so a quoted text before a colon is a key. A regular expression reads such lines ten times as
fast. The cache reads only the new lines of a running run.
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
    """Return the numbers `over` and `name` of `count` lines, in order, without lines that lack either.

    Numbers may be infinite, as an exponent may have any length.
    """
    if text.count("{") == count and "\\" not in text and text.count("\n") == count - 1:
        return _of_flat(text, count, _pattern(over), _pattern(name))
    pairs = [*_of_any(text, over, name)]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _of_flat(text: str, count: int, over: re.Pattern[str], name: re.Pattern[str]) -> Pairs:
    xs, ys = over.findall(text), name.findall(text)
    if not len(xs) == len(ys) == count:  # some lines lack a number: match the pairs line by line
        both = [(x, y) for line in text.split("\n") if (y := name.search(line)) and (x := over.search(line))]
        xs, ys = [x[1] for x, _ in both], [y[1] for _, y in both]
    return [*map(float, xs)], [*map(float, ys)]


def _of_any(text: str, over: str, name: str) -> Iterator[tuple[float, float]]:
    place, end = 0, len(text)
    while place < end:
        line, place = _DECODER.raw_decode(text, place)  # only a parser finds the end of a line
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
    """Points in order; `x` and `y` have the same length."""

    x: array[float] = field(default_factory=_none)
    y: array[float] = field(default_factory=_none)


def reduced(curve: Curve, most: int) -> Curve:
    """Return at most `most` points (at least 4), in order: the ends, and each bin's minimum and maximum."""
    x, y = curve.x, curve.y
    if len(y) <= most:
        return curve
    width = -(-len(y) // (max(4, most) // 2 - 1))  # two points are reserved for the ends
    kept = {0, len(y) - 1}
    for begin in range(0, len(y), width):
        heights = y[begin : begin + width].tolist()
        kept.add(begin + heights.index(min(heights)))
        kept.add(begin + heights.index(max(heights)))
    places = sorted(kept)
    return Curve(array("d", [x[place] for place in places]), array("d", [y[place] for place in places]))


_MAX_POINTS: Final = 1_000_000
"""Maximum number of cached points, 16 bytes each."""
_OVERHEAD_POINTS: Final = 50
"""Memory overhead of a cached series, in points."""


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """The key of a series and that of its x axis, both as in the lines."""

    stream: Stream
    name: str
    over: str


class MetricSeriesCache:
    """The most recently requested series of runs; thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, SeriesKey, int], _MetricSeries] = OrderedDict()
        self._lock = Lock()
        self._closed = Event()

    def close(self) -> None:
        """Make current reads end soon, with the points found so far."""
        self._closed.set()

    def read(self, transaction: Transaction, strides: Mapping[int, int], wanted: SeriesKey) -> list[Curve]:
        """Return a curve of each run; `strides`: every n-th line is read.

        Lines without a finite number for either axis are skipped.
        """
        found = [self._of(run_id, wanted, stride).now(transaction) for run_id, stride in strides.items()]
        self._forget_some()
        return found

    def _of(self, run_id: int, wanted: SeriesKey, stride: int) -> _MetricSeries:
        key = (run_id, wanted, stride)
        with self._lock:
            series = self._known.setdefault(key, _MetricSeries(*key, self._closed))
            self._known.move_to_end(key)
            return series

    def _forget_some(self) -> None:
        """Remove the least recently requested series above the limit."""
        with self._lock:
            points = sum(series.size for series in self._known.values())
            while points > _MAX_POINTS:
                points -= self._known.popitem(last=False)[1].size


@dataclass(slots=True)
class _MetricSeries:
    """The cached series of one run; `last`: number and text of the last line read."""

    run_id: int
    wanted: SeriesKey
    stride: int
    closed: Event
    last: tuple[int, str] | None = None
    _curve: Curve = field(default_factory=Curve)
    _lock: Lock = field(default_factory=Lock)

    @property
    def size(self) -> int:
        return len(self._curve.x) + _OVERHEAD_POINTS

    def now(self, transaction: Transaction) -> Curve:
        """Return the current curve; a run that was rewound is read again from the start."""
        with self._lock:
            if self.last is None or not self._go_on(transaction, *self.last):
                self.last, self._curve = None, Curve()
                self._add(lines.series(transaction, self.run_id, self.wanted.stream, 0, self.stride))
            return self._curve

    def _go_on(self, transaction: Transaction, number: int, line: str) -> bool:
        """Read the lines after the last one; False if that line has changed."""
        parts = lines.series(transaction, self.run_id, self.wanted.stream, number, self.stride)
        first = next(parts, None)
        if first is None or not (f"{first.text}\n").startswith(f"{line}\n"):
            return False
        rest = lines.Part(first.text[len(line) + 1 :], first.count - 1, first.last)
        self._add([rest, *parts] if rest.count else parts)
        return True

    def _add(self, parts: Iterable[lines.Part]) -> None:
        """Add points to a copy, as readers may still use the old curve."""
        x, y = self._curve.x[:], self._curve.y[:]
        for part in takewhile(lambda _: not self.closed.is_set(), parts):
            more_x, more_y = picked(part.text, part.count, self.wanted.over, self.wanted.name)
            finite = [isfinite(a) and isfinite(b) for a, b in zip(more_x, more_y, strict=True)]
            x.extend(compress(more_x, finite))
            y.extend(compress(more_y, finite))
            self.last = part.last, part.text.rpartition("\n")[2]
        self._curve = Curve(x, y)
