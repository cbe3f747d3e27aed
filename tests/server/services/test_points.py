"""Points that a sweep issues: those that no run has, and again those of unstarted or deleted runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.values import RefusedError
from tests.server.server_logic import METRIC, Services, grid

RANDOM = {"method": "random", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}}}
SCHEDULED = RANDOM | {"scheduler": {"engine": "optuna"}}
EXIT = {"type": "exit"}
PRIOR = json.dumps({"$or": [{"name": "first"}, {"name": "second"}]})
ENDED = pytest.mark.parametrize("over", ["FINISHED", "CANCELED"])


def go_on(services: Services, sweep: str) -> list[Any]:
    """Resume a sweep, and return the points that its next agent performs; no run may be asked to stop."""
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
    return sorted(found)


def test_a_resumed_sweep_performs_the_points_of_deleted_runs_and_ends(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    names = [services.perform(sweep, agent) for _ in range(3)]
    assert services.points(agent, sweep) == []
    for name in names[:2]:
        services.delete(name)
    services.set_state(sweep, "RUNNING")
    services.forget_engines()
    assert services.points(agent, sweep) == [0, 1]
    assert (services.state(sweep), services.progress(sweep).runs["finished"]) == ("FINISHED", 3)


def test_each_deleted_run_frees_a_place_under_the_run_cap(services: Services) -> None:
    sweep = services.sweep(grid(5, run_cap=2))
    agent = services.agent(sweep)
    services.perform(sweep, agent)
    for _ in range(2):
        services.delete(services.perform(sweep, agent))
    assert services.points(agent, sweep) == [1]


def test_a_deleted_run_of_a_random_sweep_is_not_replaced(services: Services) -> None:
    sweep = services.sweep(RANDOM | {"run_cap": 1})
    agent = services.agent(sweep)
    services.delete(services.perform(sweep, agent))
    assert services.beat(agent) == EXIT


def test_a_deleted_runs_point_outside_the_changed_space_is_not_issued(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    names = [services.perform(sweep, agent) for _ in range(3)]
    services.delete(names[0])
    services.change_sweep(sweep, grid(2))
    services.delete(names[2])
    assert services.points(agent, sweep) == [0]


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        pytest.param(0, 2.0, [1], id="points of prior runs are skipped, however those ended"),
        pytest.param(7, "1", [0, 1, 2], id="other values leave the grid complete"),
        pytest.param(0, 1, [2], id="a run outside the filter does not count"),
    ],
)
def test_a_grid_skips_the_points_of_its_prior_runs(
    services: Services, first: object, second: object, left: list[int]
) -> None:
    for name, x, exitcode in (("first", first, 0), ("second", second, 1), ("unasked", 2, 0)):
        services.upsert(name, config=json.dumps({"x": {"value": x}, "more": {"value": 1}}))
        services.end(name, exitcode)
    sweep = services.sweep(grid(3), PRIOR)
    assert services.points(services.agent(sweep), sweep) == left
    assert services.state(sweep) == "FINISHED"


def test_queued_runs_come_first_and_do_not_use_up_points_of_a_grid(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    services.perform(sweep, agent)
    name = services.enqueue(sweep, x=7)
    command = services.command(agent)
    assert (command["type"], command["run_id"], command["args"]) == ("run", name, {"x": {"value": 7}})
    services.finish(sweep, name)
    assert services.points(agent, sweep) == [1, 2]


def test_a_random_sweep_repeats_no_point_after_a_queued_run(services: Services) -> None:
    sweep = services.sweep(RANDOM)
    agent = services.agent(sweep)
    services.enqueue(sweep, x=7)
    names = [services.perform(sweep, agent) for _ in range(4)]
    assert len({services.run(name).assigned for name in names}) == 4


@pytest.mark.parametrize("config", [{"x": 3, "y": {"value": 1, "z": 2}}, {"x": {"value": 3}}])
def test_queued_values_may_be_plain_or_in_wandbs_format(services: Services, config: dict[str, Any]) -> None:
    name = services.enqueue(services.sweep(SCHEDULED), **config)
    assert json.loads(services.run(name).config)["x"] == {"value": 3}


@pytest.mark.parametrize("config", [SCHEDULED, {"method": "custom"}])
def test_an_agent_of_a_scheduled_sweep_waits_for_runs(services: Services, config: dict[str, Any]) -> None:
    sweep = services.sweep(config)
    agent = services.agent(sweep)
    assert services.beat(agent) is None
    name = services.enqueue(sweep, x=0.5)
    assert services.perform(sweep, agent) == name
    assert services.beat(agent) is None
    services.set_state(sweep, "FINISHED")
    assert services.beat(agent) == EXIT


def test_runs_queued_beyond_the_run_cap_are_killed(services: Services) -> None:
    sweep = services.sweep(SCHEDULED | {"run_cap": 1})
    agent = services.agent(sweep)
    first, second = (services.enqueue(sweep, x=x) for x in (0.1, 0.2))
    assert services.perform(sweep, agent) == first
    assert services.beat(agent) == EXIT
    assert (services.state(sweep), services.run(second).state) == ("FINISHED", RunState.KILLED)


@pytest.mark.parametrize(
    ("act", "value", "why"),
    [
        ("perform", 1, r"reached its run_cap \(1\)"),
        ("cancel", 1, "is CANCELED: it takes no more runs"),
        ("nothing", float("nan"), r"config\.x.* is .*; allowed: what JSON can hold"),
        ("nothing", [1, float("-inf")], r"config\.x.* is .*; allowed: what JSON can hold"),
    ],
)
def test_a_run_that_can_not_be_queued_is_refused_with_a_reason(
    services: Services, act: str, value: Any, why: str
) -> None:
    sweep = services.sweep(grid(3, run_cap=1))
    if act == "perform":
        services.perform(sweep, services.agent(sweep))
    elif act == "cancel":
        services.set_state(sweep, "CANCELED")
    with pytest.raises(RefusedError, match=why):
        services.enqueue(sweep, x=value)


def test_a_stopped_queued_run_is_killed_and_never_issued(services: Services) -> None:
    sweep = services.sweep(SCHEDULED)
    name = services.enqueue(sweep, x=0.5)
    services.request_stop(name)
    assert services.run(name).state is RunState.KILLED
    assert services.beat(services.agent(sweep)) is None


def test_an_agent_keeps_its_run_when_a_cancelled_sweep_is_resumed(services: Services) -> None:
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
def test_unstarted_runs_free_their_place_under_the_run_cap(services: Services, over: str) -> None:
    sweep = services.sweep(RANDOM | {"run_cap": 2})
    services.perform(sweep, services.agent(sweep, "w0"))
    services.issued(services.agent(sweep, "w1"))
    services.release(sweep, "w1")
    services.set_state(sweep, over)
    assert len(go_on(services, sweep)) == 1


@pytest.mark.parametrize("over", ["FINISHED", "CANCELED", "target"])
def test_queued_runs_are_killed_with_their_sweep_and_not_issued_again(services: Services, over: str) -> None:
    sweep = services.sweep(RANDOM | {"run_cap": 3, "metric": METRIC | {"target": 0.6}})
    first, second = services.enqueue(sweep, x=0.25), services.enqueue(sweep, x=0.75)
    assert services.perform(sweep, services.agent(sweep)) == first
    if over == "target":
        services.log(first, 0.5)
        assert services.state(sweep) == "FINISHED"
    else:
        services.set_state(sweep, over)
    assert services.run(second).state is RunState.KILLED
    (point,) = go_on(services, sweep)
    assert point not in (0.25, 0.75)


def test_a_grid_still_issues_the_point_of_a_withdrawn_queued_run(services: Services) -> None:
    sweep = services.sweep(grid(2))
    services.enqueue(sweep, x=1)
    services.set_state(sweep, "FINISHED")
    assert go_on(services, sweep) == [0, 1]


def test_deleting_a_withdrawn_run_does_not_issue_its_point_again(services: Services) -> None:
    sweep = services.sweep(grid(2))
    withdrawn = services.issued(services.agent(sweep, "w0"))
    services.release(sweep, "w0")
    services.set_state(sweep, "CANCELED")
    assert go_on(services, sweep) == [0, 1]
    services.delete(withdrawn)
    assert go_on(services, sweep) == []


def test_a_preempted_run_of_a_cancelled_sweep_is_resumed_without_being_stopped(services: Services) -> None:
    sweep = services.sweep(grid(2))
    name = services.begun(sweep)
    services.stream(name, Chunk(preempting=True))
    services.set_state(sweep, "CANCELED")
    services.end(name, exitcode=255)
    services.set_state(sweep, "RUNNING")
    agent = services.agent(sweep)
    assert services.issued(agent) == name
    assert services.beat(agent, name) is None


@pytest.mark.parametrize("over", ["FINISHED", "CANCELED", "released"])
def test_a_pending_run_that_a_user_stopped_is_not_issued_again(services: Services, over: str) -> None:
    sweep = services.sweep(grid(2))
    agent = services.agent(sweep, "w0" if over == "released" else "")
    name = services.issued(agent)
    services.request_stop(name)
    if over == "released":
        services.release(sweep, "w0")
    else:
        services.set_state(sweep, over)
        assert services.beat(agent) == EXIT
        services.fall_silent()
    assert services.run(name).state is RunState.KILLED
    assert go_on(services, sweep) == [1]


def test_the_point_of_a_run_that_its_agent_never_received_is_issued_again(services: Services) -> None:
    sweep = services.sweep(grid(2))
    agent = services.agent(sweep, "w0")
    lost = services.issued(agent)
    services.set_state(sweep, "FINISHED")
    assert services.beat(agent) == EXIT
    assert services.run(lost).state is RunState.KILLED
    assert go_on(services, sweep) == [0, 1]


def test_a_pending_run_that_a_user_stopped_is_killed_while_its_agent_is_alive(services: Services) -> None:
    sweep = services.sweep(grid(2))
    agent = services.agent(sweep, "w0")
    stopped = services.issued(agent)
    services.request_stop(stopped)
    assert services.beat(agent, stopped) == {"type": "stop", "run_id": stopped}
    assert services.beat(agent) is None
    services.clock.now += services.world.timeouts.stopping_s
    assert services.issued(agent) != stopped
    assert services.run(stopped).state is RunState.KILLED
