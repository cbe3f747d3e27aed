"""Curves of many points cut down to as many as a screen shows, with every spike in them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Points = Sequence[tuple[float, float]]


def reduced(points: Points, most: int) -> Points:
    """Return at most `most` (at least 4) points, in their order: of each bin the lowest and the highest.

    The first and the last one are among them.
    """
    if len(points) <= most:
        return points
    import numpy as np  # it takes 0.1 s, and most servers never draw a curve

    heights = np.array([y for _, y in points])
    edges = np.linspace(0, len(points), max(2, most) // 2, dtype=int)  # two of them are the ends' room
    kept = {0, len(points) - 1}
    for begin, end in pairwise(edges):
        kept.add(int(begin + heights[begin:end].argmin()))
        kept.add(int(begin + heights[begin:end].argmax()))
    return [points[place] for place in sorted(kept)]
