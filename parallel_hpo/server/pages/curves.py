"""Curves: numbers picked out of lines of JSON, two of each line, and cut down to what a screen shows. Pure.

A line that holds no object within its own, and nothing escaped, needs no parser: each quote in it begins or
ends a text, so what stands between two and before a colon is one of its keys. So most lines of histories are,
and a pattern reads them ten times as fast.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from parallel_hpo.metric import lookup

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
