"""Whose engine a sweep has: chosen when it is created, the same in every server process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parallel_hpo.config.sweep_words import EngineChoice
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store import sweeps
from tests.search.engines import needs_wandb_engine, without_wandb_engine
from tests.server.acting import METRIC, Stage, grid

BAYES = {"method": "bayes", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}}}


def engine_of(stage: Stage, sweep: str) -> str | None:
    with stage.world.database.read() as transaction:
        found = sweeps.find(transaction, sweep)
    assert found is not None
    return found.engine


def choose(stage: Stage, engine: EngineChoice) -> None:
    stage.world = replace(stage.world, engine=engine)


def test_a_sweep_keeps_the_engine_that_it_was_created_with(stage: Stage) -> None:
    choose(stage, EngineChoice.WANDB)
    sweep = stage.sweep(BAYES)
    choose(stage, EngineChoice.AUTO)
    stage.set_state(sweep, "CANCELED")
    assert engine_of(stage, sweep) == "wandb"
    assert engine_of(stage, stage.sweep(BAYES)) == "auto"


@without_wandb_engine
def test_an_agent_is_told_what_to_install_where_the_engine_is_missing(stage: Stage) -> None:
    choose(stage, EngineChoice.WANDB)
    sweep = stage.sweep(BAYES)
    with pytest.raises(RefusedError, match=r"pip install 'parallel_hpo\[wandb-engine\]'") as refused:
        stage.agent(sweep)
    assert refused.value.status == 400


def test_grid_and_random_need_no_package(stage: Stage) -> None:
    choose(stage, EngineChoice.WANDB)
    for configuration in (grid(2), BAYES | {"method": "random"}):
        sweep = stage.sweep(configuration)
        assert stage.perform(sweep, stage.agent(sweep))


@needs_wandb_engine
def test_runs_are_chosen_by_wandbs_engine_in_any_process(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    choose(stage, EngineChoice.WANDB)
    sweep = stage.sweep(BAYES)
    agent = stage.agent(sweep)
    for _ in range(3):
        assert stage.perform(sweep, agent)
    stage.forget_engines()
    assert stage.perform(sweep, agent)
    assert "engine failed" not in caplog.text
