"""Numbers picked out of lines: what needs no parser is read as a parser would read it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from parallel_hpo.core.values import lookup
from parallel_hpo.server.pages.metric_series import Curve, picked, reduced

LINES: list[Any] = [
    {"_step": 0, "loss": 1.5},
    {"loss": -2e-7, "_step": 1, "note": "a, b: c"},
    {"_step": 2, "loss": "1.0"},
    {"_step": 3, "other": 4.0},
    {"_step": 4, "loss": None},
    {"_step": 5, "loss": float("nan")},
    {"_step": 6, "loss": True},
    {"_step": 7, "loss ": 1, "xloss": 2},
    {"_step": 8, "note": ', "loss": 9', "loss": 8},
    {"_step": 9, "val": {"loss": 1}, "loss": 9},
    {"_step": 10, "a": {"b": 10}},
    {"_step": 11, "note": "{", "loss": 11},
    {"_step": 12, "loss": 10**400},
]


def parsed(lines: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """What a parser finds of finite numbers."""
    both = [(line["_step"], lookup(line, name)) for line in lines]
    return tuple(map(list, zip(*(each for each in both if is_finite(each[1])), strict=True))) or ([], [])  # type: ignore[return-value]


def is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


@pytest.mark.parametrize("name", ["loss", "a.b", "a", "other", "absent", "l.ss"])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
@pytest.mark.parametrize("begin", range(len(LINES)))
def test_lines_are_read_as_a_parser_reads_them(name: str, separators: tuple[str, str], begin: int) -> None:
    for lines in (LINES[begin:], LINES[begin : begin + 2], LINES[begin : begin + 1]):
        text = "\n".join(json.dumps(line, separators=separators) for line in lines)
        x, y = picked(text, len(lines), "_step", name)
        finite = [(one, other) for one, other in zip(x, y, strict=True) if math.isfinite(other)]
        assert ([one for one, _ in finite], [other for _, other in finite]) == parsed(lines, name)


def test_a_line_may_hold_newlines() -> None:
    assert picked('{"_step": 1,\n"loss": 2}\n{"_step": 2, "loss": 3}', 2, "_step", "loss") == ([1, 2], [2, 3])


@pytest.mark.parametrize("most", [4, 5, 10, 99])
@pytest.mark.parametrize("number", [1, 4, 5, 11, 100, 101])
def test_a_reduced_curve_has_its_ends_and_its_extremes(number: int, most: int) -> None:
    heights = [math.sin(place * 7) for place in range(number)]
    curve = Curve()
    curve.x.extend(range(number))
    curve.y.extend(heights)
    found = reduced(curve, most)
    assert len(found.x) <= most
    assert (found.x[0], found.x[-1]) == (0, number - 1)
    assert (min(found.y), max(found.y)) == (min(heights), max(heights))
    assert [heights[int(x)] for x in found.x] == list(found.y)
    assert list(found.x) == sorted(found.x)
