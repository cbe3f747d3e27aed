"""Answers that open pages share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from parallel_hpo.server.pages.answers import RecentAnswers


@dataclass
class Source:
    """Makes answers, each another one."""

    now: float = 100.0
    made: list[bytes] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def make(self) -> bytes:
        self.made.append(str(len(self.made)).encode())
        return self.made[-1]


def test_who_asks_soon_after_another_is_told_the_same() -> None:
    source = Source()
    recent = RecentAnswers(2.0, clock=source.clock)
    assert recent.answer("a", source.make) == b"0"
    source.now += 1.9
    assert recent.answer("a", source.make) == b"0"
    assert recent.answer("b", source.make) == b"1"
    source.now += 0.1
    assert recent.answer("a", source.make) == b"2"


def test_who_asks_while_an_answer_is_made_waits_for_that() -> None:
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


def test_what_could_not_be_answered_is_asked_again() -> None:
    source = Source()
    recent = RecentAnswers(2.0, clock=source.clock)

    def fail() -> bytes:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        recent.answer("a", fail)
    assert recent.answer("a", source.make) == b"0"
