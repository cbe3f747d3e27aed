"""Hyperband and the target of a metric: which runs are asked to stop, and by which value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parallel_hpo.server.engines import trial
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.store import runs
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.runs import change
from tests.server.server_logic import METRIC, Services, grid

RULE = {"type": "hyperband", "min_iter": 2, "eta": 2}
THIRD = RULE | {"eta": 3}
STRICT = THIRD | {"strict": True}
TARGET = METRIC | {"target": 1.0}


def started(services: Services, count: int, rule: Any = RULE, **config: Any) -> tuple[str, list[str]]:
    """Return a sweep, and runs of it that have begun."""
    sweep = services.sweep(grid(20, **{"early_terminate": rule} | config))
    return sweep, [services.begun(sweep) for _ in range(count)]


def test_a_worse_run_is_stopped_at_a_band_and_again_at_each_heartbeat(services: Services) -> None:
    sweep = services.sweep(grid(20, early_terminate=RULE))
    agents = [services.agent(sweep) for _ in range(3)]
    names = [services.issued(agent) for agent in agents]
    for name in names:
        services.start(sweep, name)
    assert not services.log(names[0], 1, 1)
    assert not services.log(names[1], 2)
    assert not services.log(names[1], 2)
    assert services.log(names[2], 3, 3)
    for _ in range(2):
        assert services.beat(agents[2], names[2]) == {"type": "stop", "run_id": names[2]}
    assert services.beat(agents[0], names[0]) is None


def test_a_run_that_passes_many_bands_in_one_chunk_is_judged_at_the_first(services: Services) -> None:
    _, names = started(services, 2, THIRD)
    services.log(names[0], 1, 1, exitcode=0)
    assert services.log(names[1], *[2] * 50)


def test_rows_without_the_metric_do_not_count_as_iterations(services: Services) -> None:
    _, names = started(services, 3)
    services.log(names[0], 1, 1)
    services.log(names[1], 1, 1)
    assert not services.log(names[2], 9, None, float("nan"), "x")
    assert services.log(names[2], 9)


def test_rows_that_wandb_sync_resends_do_not_count_as_iterations(services: Services) -> None:
    """The client sends all rows of the run's folder after those that the server has, with their steps."""
    _, (name,) = started(services, 1)
    services.log(name, 4, 3, 2)
    rows = tuple(json.dumps({"_step": step, "loss": 4 - step}) for step in range(5))
    first, second = Batch(Stream.HISTORY, 3, rows[:2]), Batch(Stream.HISTORY, 5, rows[2:])
    for batch in (first, second, second):
        services.stream(name, Chunk((batch,)))
    assert services.run(name).metric_rows == 5


def test_a_maximized_metric_stops_the_lower_runs(services: Services) -> None:
    _, names = started(services, 2, THIRD, metric={"name": "loss", "goal": "maximize"})
    assert not services.log(names[0], 5, 5)
    assert services.log(names[1], 1, 1)


@pytest.mark.parametrize(
    ("summary", "losses", "stopped"),
    [
        (9, (1, 9), True),
        ({"min": 1}, (1, 9), False),
        ({"min": 1, "max": 9}, (1, 9), False),
        ({"mean": 5}, (1, 9), False),
        ({"mean": 6}, (9, 3), True),
        ({"max": 9}, (9, 3), True),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_band_judges_a_run_by_the_value_that_its_summary_defines(
    services: Services, summary: object, losses: tuple[int, int], stopped: bool, at_once: bool
) -> None:
    _, names = started(services, 2, STRICT)
    services.log(names[0], 5, 5)
    first = losses if at_once else losses[:1]
    asked = services.log(names[1], *first, summary={"loss": summary})
    assert (asked if at_once else services.log(names[1], losses[1])) is stopped


def test_after_a_server_upgrade_an_active_run_continues_from_its_summary(services: Services) -> None:
    """An older server stored the number of rows, but not yet the value that counts."""
    _, names = started(services, 2, STRICT)
    services.log(names[0], 5, 5)
    services.log(names[1], 1, summary={"loss": {"mean": 1}})
    with services.world.database.write() as transaction:
        change(transaction, services.run(names[1]).id, {"metric_value": None})
    assert not services.log(names[1], 9)
    assert services.run(names[1]).metric_value == 5


@pytest.mark.parametrize(
    ("exitcode", "state"),
    [
        pytest.param(1, RunState.KILLED, id="stopped and killed"),
        pytest.param(0, RunState.FINISHED, id="ended by itself"),
    ],
)
def test_the_search_learns_how_far_a_stopped_run_got(
    services: Services, exitcode: int, state: RunState
) -> None:
    sweep, names = started(services, 2, THIRD)
    services.log(names[0], 1, 1, 1)
    if exitcode:
        assert services.log(names[1], 2, 2)
        services.end(names[1], exitcode, '{"loss": 2}')
    else:
        services.log(names[1], 2, 2, summary={"loss": 2}, exitcode=exitcode)
    assert (services.run(names[1]).state, services.run(names[1]).value) == (state, 2)
    with services.world.database.read() as transaction:
        told = {each.index: trial(each) for each in runs.changes_since(transaction, sweep, 0)}
    assert told[1].stopped_at == (2 if exitcode else None)


@pytest.mark.parametrize(("goal", "value"), [("minimize", 0.5), ("maximize", 2.0)])
def test_a_reached_target_ends_the_sweep_and_lets_active_runs_finish(
    services: Services, goal: str, value: float
) -> None:
    sweep = services.sweep(grid(20, metric=TARGET | {"goal": goal}))
    reaching, agent = services.begun(sweep), services.agent(sweep)
    other = services.issued(agent)
    services.start(sweep, other)
    services.log(reaching, value)
    assert services.state(sweep) == "FINISHED"
    assert services.beat(agent, other) is None
    services.end(other)
    assert services.run(other).state is RunState.FINISHED
    assert services.beat(agent) == {"type": "exit"}


@pytest.mark.parametrize(
    ("rows", "summary", "state"),
    [([], {"min": 0.5}, "FINISHED"), ([3, 0.5], 3, "FINISHED"), ([3, 0.5], {"mean": 3}, "RUNNING")],
)
def test_a_target_is_reached_by_the_value_that_the_summary_defines(
    services: Services, rows: list[float], summary: object, state: str
) -> None:
    sweep, (name,) = started(services, 1, metric=TARGET)
    services.log(name, *rows[:1], summary={"loss": summary})
    services.log(name, *rows[1:])
    assert services.state(sweep) == state


def test_a_retried_run_is_judged_by_its_new_attempt_alone(services: Services) -> None:
    """1. It dies above the first band. 2. Its next attempt starts over, with steps that go on."""
    sweep, (better, retried) = started(services, 2, THIRD)
    services.log(better, *[1] * 6)
    services.start(sweep, retried, opener="w1")
    services.log(retried, *[0.5] * 5)
    services.start(sweep, retried, opener="w2")
    assert not services.log(retried, 9)
    assert (services.run(retried).metric_rows, services.run(retried).best_loss) == (1, 9)
    assert services.log(retried, 9)


def test_changing_syncing_or_resuming_a_run_keeps_its_iterations(services: Services) -> None:
    sweep, (name,) = started(services, 1)
    for opener in ("w1", "w1", "supervisor", "", "w1"):
        services.start(sweep, name, opener=opener)
        services.log(name, 1)
    services.stream(name, Chunk(preempting=True, exitcode=1))
    services.start(sweep, name, opener="w2")
    services.log(name, 1)
    assert services.run(name).metric_rows == 6
