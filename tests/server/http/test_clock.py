"""A step of the wall clock in the server, and what it makes of the runs that were heard before it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from parallel_hpo.server.http.settings import WatchedClock
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services.file_stream import Chunk
from tests.server.acting import START, Services, grid

SILENCE_S = 301


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


def test_a_clock_that_goes_on_has_not_been_set() -> None:
    clocks = Clocks()
    assert clocks.pass_(1000) == START + 1000
    clocks.wall_s += 0.3  # NTP slews it
    assert clocks.pass_(600) == clocks.wall_s
    assert clocks.watched.set_at() == 0


@pytest.mark.parametrize("step_s", [400, -400])
def test_a_step_is_seen_once(step_s: int) -> None:
    clocks = Clocks()
    clocks.wall_s += step_s
    assert clocks.pass_(0) == START + step_s
    clocks.pass_(1000)
    assert clocks.watched.set_at() == START + step_s


def stepped(services: Services) -> Clocks:
    """Let the server's logic live by clocks that a test sets."""
    clocks = Clocks()
    services.world = replace(services.world, clock=clocks.watched, clock_set_at=clocks.watched.set_at)
    return clocks


def test_runs_that_were_heard_before_a_step_have_not_fallen_silent_by_it(services: Services) -> None:
    clocks = stepped(services)
    name = services.begun(services.sweep(grid(1)))
    clocks.pass_(SILENCE_S)
    services.stream(name, Chunk())
    clocks.wall_s += 400
    assert services.apply_timeouts() == []
    clocks.pass_(SILENCE_S)
    assert services.apply_timeouts() == [name]
    assert services.run(name).state is RunState.CRASHED


def test_a_beat_right_after_a_step_ends_no_run_that_it_does_not_list(services: Services) -> None:
    clocks = stepped(services)
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
