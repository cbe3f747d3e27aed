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
from tests.server.acting import METRIC, SessionSetup, grid

RANDOM = {"method": "random", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}}}
ENDED = pytest.mark.parametrize("over", ["FINISHED", "CANCELED"])
SILENCE_S = 301


def enqueue(stage: SessionSetup, sweep: str, x: float) -> str:
    return sweeps.enqueue(stage.world, sweep, json.dumps({"x": x}), None)


def go_on(stage: SessionSetup, sweep: str) -> list[Any]:
    """Run a sweep again, and return the points that its next agent performs; none may be asked to stop."""
    stage.set_state(sweep, "RUNNING")
    agent = stage.agent(sweep, "w9")
    found = []
    while (command := stage.beat(agent)) is not None and command["type"] == "run":
        found.append(command["args"]["x"]["value"])
        name = command["run_id"]
        assert stage.beat(agent, name) is None
        stage.start(sweep, name)
        assert not stage.stream(name, Chunk())
        stage.finish(sweep, name)
    assert stage.progress(sweep).runs["pending"] == 0
    return found


@ENDED
def test_a_grid_that_goes_on_after_its_end_has_each_point_once(stage: SessionSetup, over: str) -> None:
    """One run is finished, one was on, one was given back, one is with a stranger who is gone."""
    sweep = stage.sweep(grid(5))
    stage.perform(sweep, stage.agent(sweep, "w0"))
    stage.start(sweep, stage.issued(stage.agent(sweep, "w1")))
    stage.issued(stage.agent(sweep, "w2"))
    stage.release(sweep, "w2")
    stage.issued(stage.agent(sweep, "w3"))
    stage.issued(stage.agent(sweep))
    stage.set_state(sweep, over)
    stage.release(sweep, "w3")
    stage.clock.now += SILENCE_S
    stage.apply_timeouts()
    assert stage.progress(sweep).runs["pending"] == 0
    assert sorted(go_on(stage, sweep)) == [2, 3, 4]


def test_a_run_that_its_agent_still_has_when_a_cancelled_sweep_goes_on_is_not_stopped(
    stage: SessionSetup,
) -> None:
    sweep = stage.sweep(grid(1))
    agent = stage.agent(sweep, "w0")
    name = stage.issued(agent)
    stage.set_state(sweep, "CANCELED")
    stage.set_state(sweep, "RUNNING")
    assert stage.issued(agent) == name
    assert stage.beat(agent, name) is None


def test_a_run_that_starts_after_its_sweep_was_cancelled_is_asked_to_stop(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(1))
    name = stage.issued(stage.agent(sweep))
    stage.set_state(sweep, "CANCELED")
    stage.start(sweep, name)
    assert stage.stream(name, Chunk())


@ENDED
def test_places_within_a_run_cap_are_not_lost_with_runs_that_nobody_started(
    stage: SessionSetup, over: str
) -> None:
    sweep = stage.sweep(RANDOM | {"run_cap": 2})
    stage.perform(sweep, stage.agent(sweep, "w0"))
    stage.issued(stage.agent(sweep, "w1"))
    stage.release(sweep, "w1")
    stage.set_state(sweep, over)
    assert len(go_on(stage, sweep)) == 1


@ENDED
def test_what_is_queued_ends_with_its_sweep_and_does_not_come_back(stage: SessionSetup, over: str) -> None:
    sweep = stage.sweep(RANDOM | {"run_cap": 3})
    agent = stage.agent(sweep)
    first, second = enqueue(stage, sweep, 0.25), enqueue(stage, sweep, 0.75)
    assert stage.perform(sweep, agent) == first
    stage.set_state(sweep, over)
    assert stage.run(second).state is RunState.KILLED
    (point,) = go_on(stage, sweep)
    assert point not in (0.25, 0.75)


def test_what_is_queued_ends_when_the_target_is_reached(stage: SessionSetup) -> None:
    sweep = stage.sweep(RANDOM | {"metric": METRIC | {"target": 1.0}})
    agent = stage.agent(sweep)
    first, second = enqueue(stage, sweep, 0.25), enqueue(stage, sweep, 0.75)
    assert stage.issued(agent) == first
    stage.start(sweep, first)
    stage.stream(first, Chunk((Batch(Stream.HISTORY, 0, ('{"_step": 0, "loss": 0.5}',)),)))
    assert stage.progress(sweep).state == "FINISHED"
    assert stage.run(second).state is RunState.KILLED


def test_a_queued_point_of_a_grid_that_was_withdrawn_is_still_the_grids(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(2))
    enqueue(stage, sweep, 1)
    stage.set_state(sweep, "FINISHED")
    assert sorted(go_on(stage, sweep)) == [0, 1]


def test_a_withdrawn_run_that_is_deleted_opens_its_point_no_second_time(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(2))
    withdrawn = stage.issued(stage.agent(sweep, "w0"))
    stage.release(sweep, "w0")
    stage.set_state(sweep, "CANCELED")
    assert sorted(go_on(stage, sweep)) == [0, 1]
    stage.delete(withdrawn)
    assert go_on(stage, sweep) == []


def test_a_pending_run_that_a_user_stopped_ends_with_its_agent(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(2))
    name = stage.issued(stage.agent(sweep, "w0"))
    run_service.request_stop(stage.world, stage.run(name).id)
    stage.release(sweep, "w0")
    assert stage.run(name).state is RunState.KILLED
    assert go_on(stage, sweep) == [1]


def test_a_preempted_run_that_was_asked_to_stop_is_not_stopped_again_when_it_is_resumed(
    stage: SessionSetup,
) -> None:
    sweep = stage.sweep(grid(2))
    name = stage.issued(stage.agent(sweep))
    stage.start(sweep, name)
    stage.stream(name, Chunk(preempting=True))
    stage.set_state(sweep, "CANCELED")
    stage.stream(name, Chunk(exitcode=255))
    stage.set_state(sweep, "RUNNING")
    agent = stage.agent(sweep)
    assert stage.issued(agent) == name
    assert stage.beat(agent, name) is None


@ENDED
def test_a_pending_run_that_a_user_stopped_does_not_come_back_with_its_sweep(
    stage: SessionSetup, over: str
) -> None:
    sweep = stage.sweep(grid(2))
    agent = stage.agent(sweep)
    run_service.request_stop(stage.world, stage.run(name := stage.issued(agent)).id)
    stage.set_state(sweep, over)
    assert stage.beat(agent) == {"type": "exit"}
    stage.clock.now += SILENCE_S
    stage.apply_timeouts()
    assert stage.run(name).state is RunState.KILLED
    assert go_on(stage, sweep) == [1]


def test_a_run_whose_agent_never_had_it_when_its_sweep_was_stopped_comes_again(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(2))
    agent = stage.agent(sweep, "w0")
    lost = stage.issued(agent)
    stage.set_state(sweep, "FINISHED")
    assert stage.beat(agent) == {"type": "exit"}
    assert stage.run(lost).state is RunState.KILLED
    assert sorted(go_on(stage, sweep)) == [0, 1]


def test_a_pending_run_that_a_user_stopped_ends_though_its_agent_lives(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(2))
    agent = stage.agent(sweep, "w0")
    stopped = stage.issued(agent)
    run_service.request_stop(stage.world, stage.run(stopped).id)
    assert stage.beat(agent, stopped) == {"type": "stop", "run_id": stopped}
    assert stage.beat(agent) is None
    stage.clock.now += stage.world.timeouts.stopping_s
    assert stage.issued(agent) != stopped
    assert stage.run(stopped).state is RunState.KILLED
