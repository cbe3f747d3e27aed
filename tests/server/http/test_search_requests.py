"""Search models are asked with no transaction open, and concurrently with other requests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from parallel_hpo.config.sweep_types import Method, SweepConfiguration
from parallel_hpo.server.engines import Engines
from parallel_hpo.server.search.engine import Engine, Trial, make_engine
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import sweeps
from parallel_hpo.server.store.database import Database
from tests.server.application import BEAT, Web
from tests.server.server_logic import METRIC, Services, grid

BAYES = {"method": "bayes", "metric": METRIC, "parameters": {"x": {"min": 0, "max": 100}}}
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
    assert [json.loads(services.run(name).assigned or "")["x"] for name in (*taken, own)] == [0, 1]


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
