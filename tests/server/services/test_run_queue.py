"""Runs that come from a client and not from the sweep's own method."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import sweeps
from parallel_hpo.server.values import RefusedError
from tests.server.acting import METRIC, Services, grid

SPACE = {"x": {"min": 0.0, "max": 1.0}}
SCHEDULED = {"method": "random", "metric": METRIC, "parameters": SPACE, "scheduler": {"engine": "optuna"}}


def enqueue(services: Services, sweep: str, config: dict[str, Any]) -> str:
    return sweeps.enqueue(services.world, sweep, json.dumps(config), None)


def test_a_queued_run_comes_before_what_the_method_would_choose(services: Services) -> None:
    sweep = services.sweep(grid(2))
    name = enqueue(services, sweep, {"x": 7})
    command = services.beat(services.agent(sweep))
    assert command is not None
    assert (command["type"], command["run_id"], command["args"]) == ("run", name, {"x": {"value": 7}})


@pytest.mark.parametrize("value", [float("nan"), [1, float("-inf")]])
def test_a_queued_run_has_no_value_that_a_sweep_could_not_have(services: Services, value: Any) -> None:
    with pytest.raises(RefusedError, match=r"config\.x.* is .*; allowed: what JSON can hold"):
        enqueue(services, services.sweep(grid(2)), {"x": value})


def test_a_queued_run_uses_up_no_point_of_a_grid(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    services.perform(sweep, agent)
    enqueue(services, sweep, {"x": 7})
    names = [services.perform(sweep, agent) for _ in range(3)]
    assert [json.loads(services.run(name).assigned or "")["x"] for name in names] == [7, 1, 2]
    assert services.beat(agent) == {"type": "exit"}


def test_a_random_sweep_repeats_nothing_after_a_queued_run(services: Services) -> None:
    sweep = services.sweep({"method": "random", "parameters": SPACE})
    agent = services.agent(sweep)
    enqueue(services, sweep, {"x": 7})
    names = [services.perform(sweep, agent) for _ in range(4)]
    assert len({services.run(name).assigned for name in names}) == 4


@pytest.mark.parametrize("config", [{"x": 3, "y": {"value": 1, "z": 2}}, {"x": {"value": 3}}])
def test_values_may_be_plain_or_as_on_the_wire(services: Services, config: dict[str, Any]) -> None:
    name = enqueue(services, services.sweep(SCHEDULED), config)
    assert json.loads(services.run(name).config)["x"] == {"value": 3}


@pytest.mark.parametrize("config", [SCHEDULED, {"method": "custom"}])
def test_an_agent_of_a_scheduled_sweep_waits_for_the_scheduler(
    services: Services, config: dict[str, Any]
) -> None:
    sweep = services.sweep(config)
    agent = services.agent(sweep)
    assert services.beat(agent) is None
    name = enqueue(services, sweep, {"x": 0.5})
    assert services.perform(sweep, agent) == name
    assert services.beat(agent) is None
    services.set_state(sweep, "FINISHED")
    assert services.beat(agent) == {"type": "exit"}


def test_what_a_scheduler_queues_beyond_the_run_cap_is_never_run(services: Services) -> None:
    sweep = services.sweep(SCHEDULED | {"run_cap": 1})
    agent = services.agent(sweep)
    first, second = (enqueue(services, sweep, {"x": x}) for x in (0.1, 0.2))
    assert services.perform(sweep, agent) == first
    assert services.beat(agent) == {"type": "exit"}
    assert services.progress(sweep).state == "FINISHED"
    assert services.run(second).state == "killed"


def test_a_sweep_that_has_no_room_for_a_queued_run_says_so(services: Services) -> None:
    sweep = services.sweep(grid(3, run_cap=1))
    services.perform(sweep, services.agent(sweep))
    with pytest.raises(RefusedError, match=r"reached its run_cap \(1\)"):
        enqueue(services, sweep, {"x": 1})
    services.set_state(sweep, "CANCELED")
    with pytest.raises(RefusedError, match="is CANCELED: it takes no more runs"):
        enqueue(services, sweep, {"x": 1})
    with pytest.raises(RefusedError, match="doesn't exist"):
        enqueue(services, "nowhere", {})


def test_a_queued_run_that_is_stopped_is_never_run(services: Services) -> None:
    sweep = services.sweep(SCHEDULED)
    name = enqueue(services, sweep, {"x": 0.5})
    run_service.request_stop(services.world, services.run(name).id)
    assert services.run(name).state == "killed"
    assert services.beat(services.agent(sweep)) is None
