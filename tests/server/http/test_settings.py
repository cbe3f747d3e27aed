"""Steps of the server's wall clock, and its log's quota for similar lines."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from io import StringIO

import pytest

from parallel_hpo.server.http.settings import LogQuota, WatchedClock
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services.file_stream import Chunk
from tests.server.server_logic import SILENCE_S, START, Services, grid


@dataclass
class Clocks:
    """A wall clock that can be set, and a monotonic one that can't."""

    wall_s: float = START
    monotonic_s: float = 50.0

    def __post_init__(self) -> None:
        self.watched = WatchedClock(lambda: self.wall_s, lambda: self.monotonic_s)

    def pass_(self, seconds: float) -> float:
        self.wall_s += seconds
        self.monotonic_s += seconds
        return self.watched()


def test_a_slewed_clock_does_not_count_as_set() -> None:
    clocks = Clocks()
    assert clocks.pass_(1000) == START + 1000
    clocks.wall_s += 0.3  # NTP slews it
    assert clocks.pass_(600) == clocks.wall_s
    assert clocks.watched.set_at() == 0


@pytest.mark.parametrize("step_s", [400, -400])
def test_a_step_of_the_wall_clock_is_detected_once(step_s: int) -> None:
    clocks = Clocks()
    clocks.wall_s += step_s
    assert clocks.pass_(0) == START + step_s
    clocks.pass_(1000)
    assert clocks.watched.set_at() == START + step_s


@pytest.fixture
def clocks(services: Services) -> Clocks:
    """The clocks that the server's logic uses."""
    clocks = Clocks()
    services.world = replace(services.world, clock=clocks.watched, clock_set_at=clocks.watched.set_at)
    return clocks


def test_a_clock_step_does_not_time_out_runs_heard_before_it(services: Services, clocks: Clocks) -> None:
    name = services.begun(services.sweep(grid(1)))
    clocks.pass_(SILENCE_S)
    services.stream(name, Chunk())
    clocks.wall_s += 400
    assert services.apply_timeouts() == []
    clocks.pass_(SILENCE_S)
    assert services.apply_timeouts() == [name]
    assert services.run(name).state is RunState.CRASHED


def test_a_heartbeat_after_a_clock_step_ends_no_unlisted_run(services: Services, clocks: Clocks) -> None:
    sweep = services.sweep(grid(1))
    agent = services.agent(sweep)
    name = services.issued(agent)
    services.start(sweep, name)
    clocks.wall_s += 400
    services.beat(agent)
    assert services.run(name).state is RunState.RUNNING
    clocks.pass_(SILENCE_S)
    services.beat(agent)
    assert services.run(name).state is RunState.CRASHED


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

    def refuse(self, *numbers: int) -> list[str]:
        """Log these refusals, and return all that has been written."""
        for number in numbers:
            self.logger.warning("refused %d", number)
        return self.written.getvalue().splitlines()


def test_omitted_log_lines_are_announced_at_once_and_counted_in_the_next_period() -> None:
    log = Log()
    first = ["refused 0", "refused 1", "refused 2 (more like this are left out for 10 s)"]
    assert log.refuse(*range(100)) == first
    log.now = 10
    next_ = ["refused 100 (97 more like this were left out before it)", "refused 101"]
    assert log.refuse(100, 101) == [*first, *next_]


def test_the_log_quota_of_one_message_does_not_affect_others() -> None:
    log = Log()
    log.refuse(*range(100))
    log.logger.error("something else")
    assert log.refuse()[-1] == "something else"
