"""Which points of a grid are issued: those that no run has, be it a run of the sweep or a prior one."""

from __future__ import annotations

import json

import yaml

from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.services.sweeps import SweepUpsert
from tests.server.acting import METRIC, Services, grid

PRIOR = json.dumps({"$or": [{"name": "first"}, {"name": "second"}]})


def test_a_deleted_runs_point_is_issued_again(services: Services) -> None:
    sweep = services.sweep(grid(4))
    agent = services.agent(sweep)
    crashed = services.perform(sweep, agent)
    services.perform(sweep, agent)
    services.delete(crashed)
    assert services.points(agent, sweep) == [0, 2, 3]
    assert services.progress(sweep).state == "FINISHED"


def test_a_finished_sweep_that_is_resumed_performs_what_was_deleted_and_ends(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    names = [services.perform(sweep, agent) for _ in range(3)]
    assert services.points(agent, sweep) == []
    for name in names[:2]:
        services.delete(name)
    services.set_state(sweep, "RUNNING")
    services.forget_engines()
    assert services.points(agent, sweep) == [0, 1]
    assert services.progress(sweep).runs["finished"] == 3


def test_a_deleted_run_makes_room_under_the_run_cap(services: Services) -> None:
    sweep = services.sweep(grid(5, run_cap=2))
    agent = services.agent(sweep)
    first = services.perform(sweep, agent)
    services.perform(sweep, agent)
    services.delete(first)
    assert services.points(agent, sweep) == [0]


def test_a_point_that_is_deleted_twice_comes_back_twice(services: Services) -> None:
    sweep = services.sweep(grid(1))
    agent = services.agent(sweep)
    for _ in range(3):
        services.delete(services.perform(sweep, agent))
    assert services.points(agent, sweep) == [0]


def test_a_deleted_run_of_a_random_sweep_is_no_reason_for_another(services: Services) -> None:
    space = {"x": {"min": 0.0, "max": 1.0}}
    sweep = services.sweep({"method": "random", "run_cap": 1, "metric": METRIC, "parameters": space})
    agent = services.agent(sweep)
    services.delete(services.perform(sweep, agent))
    assert services.beat(agent) == {"type": "exit"}


def test_a_deleted_runs_point_that_a_changed_space_has_not_is_not_issued(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    names = [services.perform(sweep, agent) for _ in range(3)]
    services.delete(names[0])
    services.set_state(sweep, "PAUSED")
    sweep_service.upsert(services.world, SweepUpsert(id=sweep, config=yaml.dump(grid(2))))
    services.delete(names[2])
    services.set_state(sweep, "RUNNING")
    assert services.points(agent, sweep) == [0]


def prior_run(services: Services, name: str, x: object, exitcode: int = 0) -> None:
    """Log a run outside of any sweep, with x in its configuration and without the metric."""
    config = json.dumps({"x": {"value": x}, "more": {"value": 1}})
    run_service.upsert(services.world, RunUpsert(name=name, project="p", config=config))
    services.stream(name, Chunk(exitcode=exitcode))


def test_a_grid_passes_over_the_points_of_its_prior_runs_however_they_ended(services: Services) -> None:
    prior_run(services, "first", 0)
    prior_run(services, "second", 2.0, exitcode=1)
    prior_run(services, "unasked", 1)
    sweep = services.sweep(grid(4), PRIOR)
    assert services.points(services.agent(sweep), sweep) == [1, 3]


def test_prior_runs_that_are_none_of_the_grids_points_leave_it_whole(services: Services) -> None:
    prior_run(services, "first", 7)
    prior_run(services, "second", "1")
    sweep = services.sweep(grid(3), PRIOR)
    assert services.points(services.agent(sweep), sweep) == [0, 1, 2]


def test_a_grid_that_its_prior_runs_have_used_up_ends_at_once(services: Services) -> None:
    prior_run(services, "first", 0)
    prior_run(services, "second", 1)
    sweep = services.sweep(grid(2), PRIOR)
    assert services.points(services.agent(sweep), sweep) == []
    assert services.progress(sweep).state == "FINISHED"
