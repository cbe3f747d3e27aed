from __future__ import annotations

import pytest

from parallel_hpo.server import engines
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.values import RefusedError
from tests.server.acting import Services, grid

RANDOM = "method: random\nparameters:\n  x: {min: 0.0, max: 1.0}\n"


def test_a_sweep_without_names_goes_to_the_defaults(services: Services) -> None:
    sweep = sweep_service.upsert(services.world, SweepUpsert(config=RANDOM))
    assert (sweep.entity, sweep.project, sweep.state) == ("local", "uncategorized", "PENDING")


def test_a_sweeps_configuration_is_kept_as_it_was_sent(services: Services) -> None:
    assert sweep_service.upsert(services.world, SweepUpsert(config=RANDOM)).config == RANDOM


def test_a_configuration_may_be_json_with_its_own_numbers(services: Services) -> None:
    config = '{"method": "random", "parameters": {"lr": {"min": 1e-05, "max": 1e-2}}}'
    assert sweep_service.upsert(services.world, SweepUpsert(config=config)).state == "PENDING"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "needs a configuration"),
        ("method: [", "not valid YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("method: rendom\nparameters: {x: {value: 1}}\n", "random"),
        ("method: bayes\nparameters: {x: {min: 0, max: 1}}\n", "metric"),
        ("a: &a [1]\nb: *a\n", "aliases are not allowed"),
        ("[" * 5000, "not valid YAML"),
        ("x" * 2_000_001, "longer than"),
    ],
)
def test_a_wrong_configuration_is_refused_in_words(
    services: Services, config: str | None, message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        sweep_service.upsert(services.world, SweepUpsert(config=config))


def test_a_state_that_is_none_is_refused_with_those_that_are(services: Services) -> None:
    sweep = services.sweep(grid(2))
    with pytest.raises(RefusedError, match="one of RUNNING, PENDING, PAUSED, FINISHED, CANCELED"):
        services.set_state(sweep, "SLEEPING")


def test_a_finished_sweep_cannot_be_paused(services: Services) -> None:
    sweep = services.sweep(grid(2))
    services.set_state(sweep, "FINISHED")
    with pytest.raises(RefusedError, match="FINISHED can't take pause"):
        services.set_state(sweep, "PAUSED")


def test_a_changed_space_is_searched_from_then_on(services: Services) -> None:
    sweep = services.sweep(grid(1))
    agent = services.agent(sweep)
    services.perform(sweep, agent)
    services.set_state(sweep, "PAUSED")
    config = "method: grid\nparameters:\n  x: {values: [0, 1]}\n"
    sweep_service.upsert(services.world, SweepUpsert(id=sweep, config=config))
    services.set_state(sweep, "RUNNING")
    command = services.beat(agent)
    assert command is not None
    assert command["args"] == {"x": {"value": 1}}


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (RANDOM, None),
        (RANDOM + "run_cap: 4\n", 4),
        ("method: grid\nparameters:\n  x: {values: [1, 2, 3]}\n", 3),
        ("method: grid\nrun_cap: 2\nparameters:\n  x: {values: [1, 2, 3]}\n", 2),
    ],
)
def test_a_sweep_expects_as_many_runs_as_it_can_have(config: str, count: int | None) -> None:
    assert engines.expected_runs(config) == count
