"""Which points of a grid are issued: those that no run has, be it a run of the sweep or a prior one."""

from __future__ import annotations

import json

import yaml

from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.services.sweeps import SweepUpsert
from tests.server.acting import METRIC, SessionSetup, grid

PRIOR = json.dumps({"$or": [{"name": "first"}, {"name": "second"}]})


def test_a_deleted_runs_point_is_issued_again(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(4))
    agent = stage.agent(sweep)
    crashed = stage.perform(sweep, agent)
    stage.perform(sweep, agent)
    stage.delete(crashed)
    assert stage.points(agent, sweep) == [0, 2, 3]
    assert stage.progress(sweep).state == "FINISHED"


def test_a_finished_sweep_that_is_resumed_performs_what_was_deleted_and_ends(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    agent = stage.agent(sweep)
    names = [stage.perform(sweep, agent) for _ in range(3)]
    assert stage.points(agent, sweep) == []
    for name in names[:2]:
        stage.delete(name)
    stage.set_state(sweep, "RUNNING")
    stage.forget_engines()
    assert stage.points(agent, sweep) == [0, 1]
    assert stage.progress(sweep).runs["finished"] == 3


def test_a_deleted_run_makes_room_under_the_run_cap(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(5, run_cap=2))
    agent = stage.agent(sweep)
    first = stage.perform(sweep, agent)
    stage.perform(sweep, agent)
    stage.delete(first)
    assert stage.points(agent, sweep) == [0]


def test_a_point_that_is_deleted_twice_comes_back_twice(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(1))
    agent = stage.agent(sweep)
    for _ in range(3):
        stage.delete(stage.perform(sweep, agent))
    assert stage.points(agent, sweep) == [0]


def test_a_deleted_run_of_a_random_sweep_is_no_reason_for_another(stage: SessionSetup) -> None:
    space = {"x": {"min": 0.0, "max": 1.0}}
    sweep = stage.sweep({"method": "random", "run_cap": 1, "metric": METRIC, "parameters": space})
    agent = stage.agent(sweep)
    stage.delete(stage.perform(sweep, agent))
    assert stage.beat(agent) == {"type": "exit"}


def test_a_deleted_runs_point_that_a_changed_space_has_not_is_not_issued(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    agent = stage.agent(sweep)
    names = [stage.perform(sweep, agent) for _ in range(3)]
    stage.delete(names[0])
    stage.set_state(sweep, "PAUSED")
    sweep_service.upsert(stage.world, SweepUpsert(id=sweep, config=yaml.dump(grid(2))))
    stage.delete(names[2])
    stage.set_state(sweep, "RUNNING")
    assert stage.points(agent, sweep) == [0]


def prior_run(stage: SessionSetup, name: str, x: object, exitcode: int = 0) -> None:
    """Log a run outside of any sweep, with x in its configuration and without the metric."""
    config = json.dumps({"x": {"value": x}, "more": {"value": 1}})
    run_service.upsert(stage.world, RunUpsert(name=name, project="p", config=config))
    stage.stream(name, Chunk(exitcode=exitcode))


def test_a_grid_passes_over_the_points_of_its_prior_runs_however_they_ended(stage: SessionSetup) -> None:
    prior_run(stage, "first", 0)
    prior_run(stage, "second", 2.0, exitcode=1)
    prior_run(stage, "unasked", 1)
    sweep = stage.sweep(grid(4), PRIOR)
    assert stage.points(stage.agent(sweep), sweep) == [1, 3]


def test_prior_runs_that_are_none_of_the_grids_points_leave_it_whole(stage: SessionSetup) -> None:
    prior_run(stage, "first", 7)
    prior_run(stage, "second", "1")
    sweep = stage.sweep(grid(3), PRIOR)
    assert stage.points(stage.agent(sweep), sweep) == [0, 1, 2]


def test_a_grid_that_its_prior_runs_have_used_up_ends_at_once(stage: SessionSetup) -> None:
    prior_run(stage, "first", 0)
    prior_run(stage, "second", 1)
    sweep = stage.sweep(grid(2), PRIOR)
    assert stage.points(stage.agent(sweep), sweep) == []
    assert stage.progress(sweep).state == "FINISHED"
