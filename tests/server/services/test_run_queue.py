"""Runs that come from a client and not from the sweep's own method."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import sweeps
from parallel_hpo.server.values import RefusedError
from tests.server.acting import METRIC, SessionSetup, grid

SPACE = {"x": {"min": 0.0, "max": 1.0}}
SCHEDULED = {"method": "random", "metric": METRIC, "parameters": SPACE, "scheduler": {"engine": "optuna"}}


def enqueue(stage: SessionSetup, sweep: str, config: dict[str, Any]) -> str:
    return sweeps.enqueue(stage.world, sweep, json.dumps(config), None)


def test_a_queued_run_comes_before_what_the_method_would_choose(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(2))
    name = enqueue(stage, sweep, {"x": 7})
    command = stage.beat(stage.agent(sweep))
    assert command is not None
    assert (command["type"], command["run_id"], command["args"]) == ("run", name, {"x": {"value": 7}})


@pytest.mark.parametrize("value", [float("nan"), [1, float("-inf")]])
def test_a_queued_run_has_no_value_that_a_sweep_could_not_have(stage: SessionSetup, value: Any) -> None:
    with pytest.raises(RefusedError, match=r"config\.x.* is .*; allowed: what JSON can hold"):
        enqueue(stage, stage.sweep(grid(2)), {"x": value})


def test_a_queued_run_uses_up_no_point_of_a_grid(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    agent = stage.agent(sweep)
    stage.perform(sweep, agent)
    enqueue(stage, sweep, {"x": 7})
    names = [stage.perform(sweep, agent) for _ in range(3)]
    assert [json.loads(stage.run(name).assigned or "")["x"] for name in names] == [7, 1, 2]
    assert stage.beat(agent) == {"type": "exit"}


def test_a_random_sweep_repeats_nothing_after_a_queued_run(stage: SessionSetup) -> None:
    sweep = stage.sweep({"method": "random", "parameters": SPACE})
    agent = stage.agent(sweep)
    enqueue(stage, sweep, {"x": 7})
    names = [stage.perform(sweep, agent) for _ in range(4)]
    assert len({stage.run(name).assigned for name in names}) == 4


@pytest.mark.parametrize("config", [{"x": 3, "y": {"value": 1, "z": 2}}, {"x": {"value": 3}}])
def test_values_may_be_plain_or_as_on_the_wire(stage: SessionSetup, config: dict[str, Any]) -> None:
    name = enqueue(stage, stage.sweep(SCHEDULED), config)
    assert json.loads(stage.run(name).config)["x"] == {"value": 3}


@pytest.mark.parametrize("config", [SCHEDULED, {"method": "custom"}])
def test_an_agent_of_a_scheduled_sweep_waits_for_the_scheduler(
    stage: SessionSetup, config: dict[str, Any]
) -> None:
    sweep = stage.sweep(config)
    agent = stage.agent(sweep)
    assert stage.beat(agent) is None
    name = enqueue(stage, sweep, {"x": 0.5})
    assert stage.perform(sweep, agent) == name
    assert stage.beat(agent) is None
    stage.set_state(sweep, "FINISHED")
    assert stage.beat(agent) == {"type": "exit"}


def test_what_a_scheduler_queues_beyond_the_run_cap_is_never_run(stage: SessionSetup) -> None:
    sweep = stage.sweep(SCHEDULED | {"run_cap": 1})
    agent = stage.agent(sweep)
    first, second = (enqueue(stage, sweep, {"x": x}) for x in (0.1, 0.2))
    assert stage.perform(sweep, agent) == first
    assert stage.beat(agent) == {"type": "exit"}
    assert stage.progress(sweep).state == "FINISHED"
    assert stage.run(second).state == "killed"


def test_a_sweep_that_has_no_room_for_a_queued_run_says_so(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3, run_cap=1))
    stage.perform(sweep, stage.agent(sweep))
    with pytest.raises(RefusedError, match=r"reached its run_cap \(1\)"):
        enqueue(stage, sweep, {"x": 1})
    stage.set_state(sweep, "CANCELED")
    with pytest.raises(RefusedError, match="is CANCELED: it takes no more runs"):
        enqueue(stage, sweep, {"x": 1})
    with pytest.raises(RefusedError, match="doesn't exist"):
        enqueue(stage, "nowhere", {})


def test_a_queued_run_that_is_stopped_is_never_run(stage: SessionSetup) -> None:
    sweep = stage.sweep(SCHEDULED)
    name = enqueue(stage, sweep, {"x": 0.5})
    run_service.request_stop(stage.world, stage.run(name).id)
    assert stage.run(name).state == "killed"
    assert stage.beat(stage.agent(sweep)) is None
