"""Numbers picked out of lines as a parser would read them, and answers that open pages share."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from parallel_hpo.core.values import lookup
from parallel_hpo.server.pages.answers import RecentAnswers
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


def finite(points: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Those points whose value is a number that a curve can show."""
    return [
        (step, value)
        for step, value in points
        if type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    ]


@pytest.mark.parametrize("name", ["loss", "a.b", "a", "other", "absent", "l.ss"])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_picked_values_match_those_of_a_json_parser(name: str, separators: tuple[str, str]) -> None:
    for begin in range(len(LINES)):
        for lines in (LINES[begin:], LINES[begin : begin + 2], LINES[begin : begin + 1]):
            text = "\n".join(json.dumps(line, separators=separators) for line in lines)
            x, y = picked(text, len(lines), "_step", name)
            expected = finite([(line["_step"], lookup(line, name)) for line in lines])
            assert finite(list(zip(x, y, strict=True))) == expected


def test_a_line_may_hold_newlines() -> None:
    assert picked('{"_step": 1,\n"loss": 2}\n{"_step": 2, "loss": 3}', 2, "_step", "loss") == ([1, 2], [2, 3])


@pytest.mark.parametrize("most", [4, 5, 10, 99])
@pytest.mark.parametrize("number", [1, 4, 5, 11, 100, 101])
def test_a_reduced_curve_keeps_its_ends_and_extremes(number: int, most: int) -> None:
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


def test_a_recent_answer_is_reused_for_the_same_key() -> None:
    now = 100.0
    made = iter([b"first", b"second", b"third"])
    recent = RecentAnswers(2.0, clock=lambda: now)
    assert recent.answer("a", lambda: next(made)) == b"first"
    now += 1.9
    assert recent.answer("a", lambda: next(made)) == b"first"
    assert recent.answer("b", lambda: next(made)) == b"second"
    now += 0.1
    assert recent.answer("a", lambda: next(made)) == b"third"


def test_concurrent_requests_share_one_answer() -> None:
    recent, made = RecentAnswers(60.0), []
    all_ask = threading.Barrier(3)

    def make() -> bytes:
        made.append(1)
        return b"answer"

    def ask(_number: int) -> bytes:
        all_ask.wait(20)
        return recent.answer("a", make)

    with ThreadPoolExecutor(3) as threads:
        assert [*threads.map(ask, range(3))] == [b"answer"] * 3
    assert made == [1]


def test_a_failed_answer_is_not_cached() -> None:
    recent = RecentAnswers(2.0)

    def fail() -> bytes:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        recent.answer("a", fail)
    assert recent.answer("a", lambda: b"there") == b"there"
