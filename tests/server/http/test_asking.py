"""Models of the search are asked with no transaction open, and beside all other requests."""

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
from tests.server.acting import METRIC, Services, grid
from tests.server.web import BEAT, Web

BAYES = {"method": "bayes", "metric": METRIC, "parameters": {"x": {"min": 0, "max": 100}}}
DEADLINE_S = 20.0
"""Far beyond what anything here takes, so that only a hang reaches it."""


@dataclass
class Model:
    """An engine that suggests each run's own index, once `meanwhile` has been done."""

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


def put_in(services: Services, meanwhile: Callable[[int], object] = lambda _index: None) -> Model:
    """Let such a model choose the runs of this process's sweeps that have one."""
    model = Model(meanwhile)

    def make(configuration: SweepConfiguration, **options: Any) -> Engine:
        return model if configuration.method is Method.BAYES else make_engine(configuration, **options)

    services.world = replace(services.world, engines=Engines(make))
    return model


def test_other_processes_write_while_a_model_is_asked(services: Services) -> None:
    sweep = services.sweep(BAYES)
    agent = services.agent(sweep)
    with closing(Database.open(services.where, busy_timeout_s=0.2)) as other:

        def write(_index: int) -> None:
            with other.write() as transaction:
                sweeps.touch_agent(transaction, agent, services.clock())

        put_in(services, write)
        assert services.issued(agent)


def test_agents_of_two_processes_that_ask_at_once_are_given_different_points(services: Services) -> None:
    sweep = services.sweep(BAYES)
    mine, others = services.agent(sweep), services.agent(sweep)
    beside = copy(services)
    taken: list[str] = []

    def be_faster(index: int) -> None:
        if index == 0:
            taken.append(beside.issued(others))

    model = put_in(services, be_faster)
    put_in(beside)
    own = services.issued(mine)
    assert model.asked == [0, 1]
    assert [json.loads(services.run(name).assigned or "")["x"] for name in (*taken, own)] == [0, 1]


def test_what_a_model_said_of_another_space_is_not_issued(services: Services) -> None:
    sweep = services.sweep(BAYES)
    agent = services.agent(sweep)
    changed = BAYES | {"name": "changed"}

    def change(_index: int) -> None:
        if len(model.asked) == 1:
            sweep_service.upsert(services.world, SweepUpsert(id=sweep, config=json.dumps(changed)))

    model = put_in(services, change)
    assert services.issued(agent)
    assert model.asked == [0, 0]


def test_what_comes_in_while_a_model_is_asked_is_no_reason_to_ask_again(services: Services) -> None:
    sweep = services.sweep(BAYES)

    def finish_the_first(index: int) -> None:
        if index == 1:
            services.finish(sweep, first)

    model = put_in(services, finish_the_first)
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
    put_in(services, take_long)
    with Web(services) as web:
        asking = web.begin(BEAT, a=waiting)
        web.wait_for(asyncio.to_thread(begun.wait, DEADLINE_S))
        assert '"run"' in web.ask(BEAT, a=idle)["data"]["agentHeartbeat"]["commands"]
        assert not asking.done()
        go_on.set()
        assert '"run"' in web.wait_for(asking).json()["data"]["agentHeartbeat"]["commands"]


def test_agents_that_ask_at_once_are_each_told_a_run_of_their_own(services: Services) -> None:
    sweep = services.sweep(BAYES)
    waiting = [services.agent(sweep) for _ in range(4)]
    model = put_in(services)
    with Web(services) as web:
        for task in [web.begin(BEAT, a=agent) for agent in waiting]:
            assert web.wait_for(task).status_code == 200
    assert model.asked == [0, 1, 2, 3]
