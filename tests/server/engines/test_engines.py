"""The search engines of stored sweeps: the same points in every process, asked beside other requests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from parallel_hpo.config.sweep_types import Method, SweepConfiguration
from parallel_hpo.server.engines import Engines
from parallel_hpo.server.search.bayes import RESULTS_NEEDED
from parallel_hpo.server.search.engine import Engine, Trial, make_engine
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import sweeps
from parallel_hpo.server.store import sweeps as sweeps_store
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.values import RefusedError
from tests.server.application import BEAT, Web
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


def assigned(services: Services, name: str) -> float:
    x: float = json.loads(services.run(name).assigned or "")["x"]
    return x


def test_a_random_sweep_with_prior_runs_repeats_no_point(services: Services) -> None:
    sweep = services.sweep(BAYES | {"method": "random"}, prior_runs='{"name": "none"}')
    agent = services.agent(sweep)
    assert len({assigned(services, services.perform(sweep, agent)) for _ in range(3)}) == 3


def suggested_after(services: Services, results: Callable[[float], float], **config: Any) -> float:
    """Finish as many runs of a bayes sweep as its model needs, and return its next suggestion."""
    sweep = services.sweep(BAYES | config)
    agent = services.agent(sweep)
    for _ in range(RESULTS_NEEDED):
        name = services.issued(agent)
        services.finish(sweep, name, loss=results(assigned(services, name)))
    return assigned(services, services.issued(agent))


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


DEADLINE_S = 20.0
"""A timeout that only a hang reaches."""


@dataclass
class Model:
    """An engine that calls `meanwhile`, and then suggests each run's own index."""

    meanwhile: Callable[[int], object]
    asked: list[int] = field(default_factory=list)
    size: int | None = None

    def index(self, parameters: Mapping[str, Any]) -> int | None:
        return None

    def tell(self, trial: Trial) -> None:
        """Learn nothing."""

    def ask(self, index: int) -> dict[str, Any]:
        self.asked.append(index)
        self.meanwhile(index)
        return {"x": index}


def install_model(services: Services, meanwhile: Callable[[int], object] = lambda _index: None) -> Model:
    """Use such a model for all Bayesian sweeps of this process."""
    model = Model(meanwhile)

    def make(configuration: SweepConfiguration, **options: Any) -> Engine:
        return model if configuration.method is Method.BAYES else make_engine(configuration, **options)

    services.world = replace(services.world, engines=Engines(make))
    return model


def test_other_processes_can_write_while_a_model_is_asked(services: Services) -> None:
    sweep = services.sweep(BAYES)
    agent = services.agent(sweep)
    with closing(Database.open(services.where, busy_timeout_s=0.2)) as other:

        def write(_index: int) -> None:
            with other.write() as transaction:
                sweeps.touch_agent(transaction, agent, services.clock())

        install_model(services, write)
        assert services.issued(agent)


def test_concurrent_agents_of_two_processes_get_different_points(services: Services) -> None:
    sweep = services.sweep(BAYES)
    mine, others = services.agent(sweep), services.agent(sweep)
    beside = copy(services)
    taken: list[str] = []

    def be_faster(index: int) -> None:
        if index == 0:
            taken.append(beside.issued(others))

    model = install_model(services, be_faster)
    install_model(beside)
    own = services.issued(mine)
    assert model.asked == [0, 1]
    assert [assigned(services, name) for name in (*taken, own)] == [0, 1]


def test_a_suggestion_is_discarded_if_the_sweep_changed_meanwhile(services: Services) -> None:
    sweep = services.sweep(BAYES)
    agent = services.agent(sweep)
    changed = BAYES | {"name": "changed"}

    def change(_index: int) -> None:
        if len(model.asked) == 1:
            sweep_service.upsert(services.world, SweepUpsert(id=sweep, config=json.dumps(changed)))

    model = install_model(services, change)
    assert services.issued(agent)
    assert model.asked == [0, 0]


def test_a_result_that_arrives_while_a_model_is_asked_does_not_repeat_the_ask(services: Services) -> None:
    sweep = services.sweep(BAYES)

    def finish_the_first(index: int) -> None:
        if index == 1:
            services.finish(sweep, first)

    model = install_model(services, finish_the_first)
    first = services.issued(services.agent(sweep))
    services.issued(services.agent(sweep))
    assert model.asked == [0, 1]


def test_heartbeats_are_answered_while_a_model_is_asked(services: Services) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def take_long(_index: int) -> None:
        begun.set()
        assert go_on.wait(DEADLINE_S)

    slow, quick = services.sweep(BAYES), services.sweep(grid(3))
    waiting, idle = services.agent(slow), services.agent(quick)
    install_model(services, take_long)
    with Web(services) as web:
        asking = web.begin(BEAT, a=waiting)
        web.wait_for(asyncio.to_thread(begun.wait, DEADLINE_S))
        assert '"run"' in web.ask(BEAT, a=idle)["data"]["agentHeartbeat"]["commands"]
        assert not asking.done()
        go_on.set()
        assert '"run"' in web.wait_for(asking).json()["data"]["agentHeartbeat"]["commands"]


def test_concurrent_agents_each_get_a_run_of_their_own(services: Services) -> None:
    sweep = services.sweep(BAYES)
    waiting = [services.agent(sweep) for _ in range(4)]
    model = install_model(services)
    with Web(services) as web:
        for task in [web.begin(BEAT, a=agent) for agent in waiting]:
            assert web.wait_for(task).status_code == 200
    assert model.asked == [0, 1, 2, 3]
