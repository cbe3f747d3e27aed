"""The search engines of stored sweeps suggest the same points in every server process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from parallel_hpo.server.search.bayes import RESULTS_NEEDED
from parallel_hpo.server.store import sweeps as sweeps_store
from parallel_hpo.server.values import RefusedError
from tests.server.server_logic import METRIC, Services, grid

BAYES = {"method": "bayes", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}}}


def set_stored_engine(services: Services, sweep: str, engine: str) -> None:
    with services.world.database.write() as transaction:
        sweeps_store.change(transaction, sweep, {"engine": engine})


def test_a_stored_sweep_with_wandbs_engine_is_refused_and_gets_no_run(services: Services) -> None:
    sweep = services.sweep(BAYES)
    agent = services.agent(sweep)
    set_stored_engine(services, sweep, "wandb")
    with pytest.raises(RefusedError, match="run `wandb sweep-scheduler` of your own") as refused:
        services.agent(sweep)
    assert refused.value.status == 400
    with pytest.raises(RefusedError, match='created with engine "wandb"'):
        services.beat(agent)


@pytest.mark.parametrize(
    ("engine", "configuration"),
    [("auto", BAYES), ("wandb", grid(2)), ("wandb", BAYES | {"method": "random"})],
)
def test_stored_sweeps_with_other_engine_settings_still_get_runs(
    services: Services, engine: str, configuration: dict[str, Any]
) -> None:
    sweep = services.sweep(configuration)
    set_stored_engine(services, sweep, engine)
    assert services.perform(sweep, services.agent(sweep))


def test_a_random_sweep_with_prior_runs_repeats_no_point(services: Services) -> None:
    sweep = services.sweep(BAYES | {"method": "random"}, prior_runs='{"name": "none"}')
    agent = services.agent(sweep)
    names = [services.perform(sweep, agent) for _ in range(3)]
    assert len({services.run(name).assigned for name in names}) == 3


def suggested_after(services: Services, results: Callable[[float], float], **config: Any) -> float:
    """Finish as many runs of a bayes sweep as its model needs, and return its next suggestion."""
    sweep = services.sweep(BAYES | config)
    agent = services.agent(sweep)
    for _ in range(RESULTS_NEEDED):
        name = services.issued(agent)
        services.finish(sweep, name, loss=results(assigned(services, name)))
    return assigned(services, services.issued(agent))


def assigned(services: Services, name: str) -> float:
    x: float = json.loads(services.run(name).assigned or "")["x"]
    return x


def test_a_bayes_sweep_learns_from_the_results_of_its_runs(services: Services) -> None:
    """The first points are the same, so that only the results can change the next one."""
    near_0 = suggested_after(services, lambda x: x)
    near_1 = suggested_after(services, lambda x: 1 - x)
    maximized = suggested_after(services, lambda x: x, metric=METRIC | {"goal": "maximize"})
    assert near_0 < 0.5 < min(near_1, maximized)


def test_a_bayes_sweep_learns_from_a_metric_that_was_changed(services: Services) -> None:
    sweep = services.sweep(BAYES)
    agent = services.agent(sweep)
    for _ in range(RESULTS_NEEDED):
        name = services.issued(agent)
        services.start(sweep, name)
        x = assigned(services, name)
        services.end(name, summary=json.dumps({"loss": x, "other": {"max": 1 - x}}))
    services.change_sweep(sweep, BAYES | {"metric": {"name": "other"}})
    assert assigned(services, services.issued(agent)) > 0.5


def test_a_bayes_sweep_learns_from_prior_runs(services: Services) -> None:
    def first_after(prior: str, slope: float) -> float:
        for number in range(RESULTS_NEEDED):
            x = number / RESULTS_NEEDED
            name = services.upsert(f"{prior}{number}", config=json.dumps({"x": {"value": x}})).name
            services.end(name, summary=json.dumps({"loss": {"min": slope * x, "max": -slope * x}}))
        sweep = services.sweep(BAYES, prior_runs=json.dumps({"name": {"$regex": f"^{prior}"}}))
        return assigned(services, services.issued(services.agent(sweep)))

    assert first_after("down", -1) > 0.5 > first_after("up", 1)


def test_an_engine_forgets_a_rolled_back_transaction(services: Services) -> None:
    """Otherwise it would skip the rows that are written in place of the rolled-back ones."""
    sweep = services.sweep(grid(3), prior_runs='{"name": "none"}')  # so that it skips points that were tried
    agent, other = services.agent(sweep), services.agent(sweep)
    services.start(sweep, services.issued(agent))
    services.clock.now += 3600  # the run was silent for so long that the next beat ends it

    def fail() -> str:
        raise OSError("no random numbers")

    whole = services.world
    services.world = replace(whole, new_id=fail)
    with pytest.raises(OSError, match="no random numbers"):
        services.beat(agent)
    services.world = whole
    services.enqueue(sweep, x=1)
    assert [assigned(services, services.issued(one)) for one in (other, agent)] == [1, 2]
