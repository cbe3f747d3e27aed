"""The search engines of stored sweeps: the same points in every server process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from parallel_hpo.server.search.bayes import OwnModel
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import sweeps as sweeps_store
from parallel_hpo.server.values import RefusedError
from tests.server.acting import METRIC, SessionSetup, grid

BAYES = {"method": "bayes", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}}}


def created_by_an_earlier_release(stage: SessionSetup, engine: str, configuration: dict[str, Any]) -> str:
    sweep = stage.sweep(configuration)
    with stage.world.database.write() as transaction:
        sweeps_store.change(transaction, sweep, {"engine": engine})
    return sweep


def test_a_stored_bayes_sweep_with_wandbs_engine_is_refused(stage: SessionSetup) -> None:
    sweep = created_by_an_earlier_release(stage, "wandb", BAYES)
    with pytest.raises(RefusedError, match="run `wandb sweep-scheduler` of your own") as refused:
        stage.agent(sweep)
    assert refused.value.status == 400


def test_an_agent_of_a_sweep_with_wandbs_engine_gets_no_run_of_ours(stage: SessionSetup) -> None:
    sweep = stage.sweep(BAYES)
    agent = stage.agent(sweep)
    with stage.world.database.write() as transaction:
        sweeps_store.change(transaction, sweep, {"engine": "wandb"})
    with pytest.raises(RefusedError, match='created with engine "wandb"'):
        stage.beat(agent)


@pytest.mark.parametrize(
    ("engine", "configuration"),
    [("auto", BAYES), ("wandb", grid(2)), ("wandb", BAYES | {"method": "random"})],
)
def test_other_stored_sweeps_with_an_engine_go_on(
    stage: SessionSetup, engine: str, configuration: dict[str, Any]
) -> None:
    sweep = created_by_an_earlier_release(stage, engine, configuration)
    assert stage.perform(sweep, stage.agent(sweep))


def test_a_random_sweep_with_prior_runs_repeats_nothing(stage: SessionSetup) -> None:
    sweep = stage.sweep(BAYES | {"method": "random"}, prior_runs='{"name": "none"}')
    agent = stage.agent(sweep)
    names = [stage.perform(sweep, agent) for _ in range(3)]
    assert len({stage.run(name).assigned for name in names}) == 3


def suggested_after(stage: SessionSetup, results: Callable[[float], float], **config: Any) -> float:
    """Perform as many runs of a bayes sweep as its model needs, and return what it suggests then."""
    sweep = stage.sweep(BAYES | config)
    agent = stage.agent(sweep)
    for _ in range(OwnModel.results_needed):
        name = stage.issued(agent)
        stage.finish(sweep, name, loss=results(assigned(stage, name)))
    return assigned(stage, stage.issued(agent))


def assigned(stage: SessionSetup, name: str) -> float:
    x: float = json.loads(stage.run(name).assigned or "")["x"]
    return x


def test_a_model_is_told_what_came_of_the_runs(stage: SessionSetup) -> None:
    """Where the first ones were the same, only their results can make the next one another."""
    near_0 = suggested_after(stage, lambda x: x)
    near_1 = suggested_after(stage, lambda x: 1 - x)
    maximized = suggested_after(stage, lambda x: x, metric=METRIC | {"goal": "maximize"})
    assert near_0 < 0.5 < min(near_1, maximized)


def test_a_model_is_told_of_what_came_of_the_runs_by_a_metric_that_was_changed(stage: SessionSetup) -> None:
    sweep = stage.sweep(BAYES)
    agent = stage.agent(sweep)
    for _ in range(OwnModel.results_needed):
        name = stage.issued(agent)
        stage.start(sweep, name)
        x = assigned(stage, name)
        stage.stream(name, Chunk(summary=json.dumps({"loss": x, "other": {"max": 1 - x}}), exitcode=0))
    stage.set_state(sweep, "PAUSED")
    changed = BAYES | {"metric": {"name": "other"}}
    sweep_service.upsert(stage.world, SweepUpsert(id=sweep, config=json.dumps(changed), state="RUNNING"))
    assert assigned(stage, stage.issued(agent)) > 0.5


def test_a_model_is_told_of_prior_runs(stage: SessionSetup) -> None:
    def first_after(prior: str, slope: float) -> float:
        for number in range(OwnModel.results_needed):
            x = number / OwnModel.results_needed
            name, config = f"{prior}{number}", json.dumps({"x": {"value": x}})
            run_service.upsert(stage.world, RunUpsert(name=name, project="p", config=config))
            summary = json.dumps({"loss": {"min": slope * x, "max": -slope * x}})
            stage.stream(name, Chunk(summary=summary, exitcode=0))
        sweep = stage.sweep(BAYES, prior_runs=json.dumps({"name": {"$regex": f"^{prior}"}}))
        return assigned(stage, stage.issued(stage.agent(sweep)))

    assert first_after("down", -1) > 0.5 > first_after("up", 1)


def test_an_engine_forgets_what_was_rolled_back(stage: SessionSetup) -> None:
    """Else it would take what is written in its place for what it knows already."""
    sweep = stage.sweep(grid(3), prior_runs='{"name": "none"}')  # so that it passes over what was tried
    agent, other = stage.agent(sweep), stage.agent(sweep)
    stage.start(sweep, stage.issued(agent))
    stage.clock.now += 3600  # the run was silent for so long that the next beat ends it

    def fail() -> str:
        raise OSError("no random numbers")

    whole = stage.world
    stage.world = replace(whole, new_id=fail)
    with pytest.raises(OSError, match="no random numbers"):
        stage.beat(agent)
    stage.world = whole
    sweep_service.enqueue(stage.world, sweep, '{"x": 1}', None)
    assert [assigned(stage, stage.issued(one)) for one in (other, agent)] == [1, 2]
