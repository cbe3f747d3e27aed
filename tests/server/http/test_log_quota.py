from __future__ import annotations

import logging
from dataclasses import dataclass, field
from io import StringIO

import pytest

from parallel_hpo.server.http.settings import LogQuota


@dataclass
class Log:
    """A log with a quota of three lines in ten seconds."""

    now: float = 0.0
    written: StringIO = field(default_factory=StringIO)

    def __post_init__(self) -> None:
        self.logger = logging.Logger("test")
        handler = logging.StreamHandler(self.written)
        handler.addFilter(LogQuota(max_lines=3, period_s=10, clock=lambda: self.now))
        self.logger.addHandler(handler)

    def refuse(self, *numbers: int) -> None:
        for number in numbers:
            self.logger.warning("refused %d", number)

    @property
    def lines(self) -> list[str]:
        return self.written.getvalue().splitlines()


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_last_line_that_is_written_says_that_more_are_left_out(log: Log) -> None:
    log.refuse(*range(100))
    assert log.lines == ["refused 0", "refused 1", "refused 2 (more like this are left out for 10 s)"]


def test_the_first_line_of_the_next_while_says_how_many_were_left_out(log: Log) -> None:
    log.refuse(*range(100))
    log.now = 10
    log.refuse(100, 101)
    assert log.lines[3:] == ["refused 100 (97 more like this were left out before it)", "refused 101"]


def test_one_kind_of_line_leaves_the_others_room(log: Log) -> None:
    log.refuse(*range(100))
    log.logger.error("something else")
    assert log.lines[-1] == "something else"
