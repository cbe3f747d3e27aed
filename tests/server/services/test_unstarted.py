"""Runs that nobody has started when their sweep is stopped or cancelled, and when it goes on then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import sweeps
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.store.lines import Stream
from tests.server.acting import METRIC, Services, grid

RANDOM = {"method": "random", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}}}
ENDED = pytest.mark.parametrize("over", ["FINISHED", "CANCELED"])
SILENCE_S = 301


def enqueue(services: Services, sweep: str, x: float) -> str:
    return sweeps.enqueue(services.world, sweep, json.dumps({"x": x}), None)


def go_on(services: Services, sweep: str) -> list[Any]:
    """Run a sweep again, and return the points that its next agent performs; none may be asked to stop."""
    services.set_state(sweep, "RUNNING")
    agent = services.agent(sweep, "w9")
    found = []
    while (command := services.beat(agent)) is not None and command["type"] == "run":
        found.append(command["args"]["x"]["value"])
        name = command["run_id"]
        assert services.beat(agent, name) is None
        services.start(sweep, name)
        assert not services.stream(name, Chunk())
        services.finish(sweep, name)
    assert services.progress(sweep).runs["pending"] == 0
    return found


@ENDED
def test_a_grid_that_goes_on_after_its_end_has_each_point_once(services: Services, over: str) -> None:
    """One run is finished, one was on, one was given back, one is with a stranger who is gone."""
    sweep = services.sweep(grid(5))
    services.perform(sweep, services.agent(sweep, "w0"))
    services.start(sweep, services.issued(services.agent(sweep, "w1")))
    services.issued(services.agent(sweep, "w2"))
    services.release(sweep, "w2")
    services.issued(services.agent(sweep, "w3"))
    services.issued(services.agent(sweep))
    services.set_state(sweep, over)
    services.release(sweep, "w3")
    services.clock.now += SILENCE_S
    services.apply_timeouts()
    assert services.progress(sweep).runs["pending"] == 0
    assert sorted(go_on(services, sweep)) == [2, 3, 4]


def test_a_run_that_its_agent_still_has_when_a_cancelled_sweep_goes_on_is_not_stopped(
    services: Services,
) -> None:
    sweep = services.sweep(grid(1))
    agent = services.agent(sweep, "w0")
    name = services.issued(agent)
    services.set_state(sweep, "CANCELED")
    services.set_state(sweep, "RUNNING")
    assert services.issued(agent) == name
    assert services.beat(agent, name) is None


def test_a_run_that_starts_after_its_sweep_was_cancelled_is_asked_to_stop(services: Services) -> None:
    sweep = services.sweep(grid(1))
    name = services.issued(services.agent(sweep))
    services.set_state(sweep, "CANCELED")
    services.start(sweep, name)
    assert services.stream(name, Chunk())


@ENDED
def test_places_within_a_run_cap_are_not_lost_with_runs_that_nobody_started(
    services: Services, over: str
) -> None:
    sweep = services.sweep(RANDOM | {"run_cap": 2})
    services.perform(sweep, services.agent(sweep, "w0"))
    services.issued(services.agent(sweep, "w1"))
    services.release(sweep, "w1")
    services.set_state(sweep, over)
    assert len(go_on(services, sweep)) == 1


@ENDED
def test_what_is_queued_ends_with_its_sweep_and_does_not_come_back(services: Services, over: str) -> None:
    sweep = services.sweep(RANDOM | {"run_cap": 3})
    agent = services.agent(sweep)
    first, second = enqueue(services, sweep, 0.25), enqueue(services, sweep, 0.75)
    assert services.perform(sweep, agent) == first
    services.set_state(sweep, over)
    assert services.run(second).state is RunState.KILLED
    (point,) = go_on(services, sweep)
    assert point not in (0.25, 0.75)


def test_what_is_queued_ends_when_the_target_is_reached(services: Services) -> None:
    sweep = services.sweep(RANDOM | {"metric": METRIC | {"target": 1.0}})
    agent = services.agent(sweep)
    first, second = enqueue(services, sweep, 0.25), enqueue(services, sweep, 0.75)
    assert services.issued(agent) == first
    services.start(sweep, first)
    services.stream(first, Chunk((Batch(Stream.HISTORY, 0, ('{"_step": 0, "loss": 0.5}',)),)))
    assert services.progress(sweep).state == "FINISHED"
    assert services.run(second).state is RunState.KILLED


def test_a_queued_point_of_a_grid_that_was_withdrawn_is_still_the_grids(services: Services) -> None:
    sweep = services.sweep(grid(2))
    enqueue(services, sweep, 1)
    services.set_state(sweep, "FINISHED")
    assert sorted(go_on(services, sweep)) == [0, 1]


def test_a_withdrawn_run_that_is_deleted_opens_its_point_no_second_time(services: Services) -> None:
    sweep = services.sweep(grid(2))
    withdrawn = services.issued(services.agent(sweep, "w0"))
    services.release(sweep, "w0")
    services.set_state(sweep, "CANCELED")
    assert sorted(go_on(services, sweep)) == [0, 1]
    services.delete(withdrawn)
    assert go_on(services, sweep) == []


def test_a_pending_run_that_a_user_stopped_ends_with_its_agent(services: Services) -> None:
    sweep = services.sweep(grid(2))
    name = services.issued(services.agent(sweep, "w0"))
    run_service.request_stop(services.world, services.run(name).id)
    services.release(sweep, "w0")
    assert services.run(name).state is RunState.KILLED
    assert go_on(services, sweep) == [1]


def test_a_preempted_run_that_was_asked_to_stop_is_not_stopped_again_when_it_is_resumed(
    services: Services,
) -> None:
    sweep = services.sweep(grid(2))
    name = services.begun(sweep)
    services.stream(name, Chunk(preempting=True))
    services.set_state(sweep, "CANCELED")
    services.stream(name, Chunk(exitcode=255))
    services.set_state(sweep, "RUNNING")
    agent = services.agent(sweep)
    assert services.issued(agent) == name
    assert services.beat(agent, name) is None


@ENDED
def test_a_pending_run_that_a_user_stopped_does_not_come_back_with_its_sweep(
    services: Services, over: str
) -> None:
    sweep = services.sweep(grid(2))
    agent = services.agent(sweep)
    run_service.request_stop(services.world, services.run(name := services.issued(agent)).id)
    services.set_state(sweep, over)
    assert services.beat(agent) == {"type": "exit"}
    services.clock.now += SILENCE_S
    services.apply_timeouts()
    assert services.run(name).state is RunState.KILLED
    assert go_on(services, sweep) == [1]


def test_a_run_whose_agent_never_had_it_when_its_sweep_was_stopped_comes_again(services: Services) -> None:
    sweep = services.sweep(grid(2))
    agent = services.agent(sweep, "w0")
    lost = services.issued(agent)
    services.set_state(sweep, "FINISHED")
    assert services.beat(agent) == {"type": "exit"}
    assert services.run(lost).state is RunState.KILLED
    assert sorted(go_on(services, sweep)) == [0, 1]


def test_a_pending_run_that_a_user_stopped_ends_though_its_agent_lives(services: Services) -> None:
    sweep = services.sweep(grid(2))
    agent = services.agent(sweep, "w0")
    stopped = services.issued(agent)
    run_service.request_stop(services.world, services.run(stopped).id)
    assert services.beat(agent, stopped) == {"type": "stop", "run_id": stopped}
    assert services.beat(agent) is None
    services.clock.now += services.world.timeouts.stopping_s
    assert services.issued(agent) != stopped
    assert services.run(stopped).state is RunState.KILLED
