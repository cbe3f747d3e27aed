"""Curves of many points cut down to as many as a screen shows, with every spike in them. Pure."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


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
