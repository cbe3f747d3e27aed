from __future__ import annotations

import json
from typing import Any

import pytest

from parallel_hpo.server.engines import trial
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.store import runs
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.runs import change
from tests.server.acting import Services, grid

RULE = {"type": "hyperband", "min_iter": 2, "eta": 2}


def log(
    services: Services, name: str, *losses: object, exitcode: int | None = None, summary: object = None
) -> bool:
    """Log rows after those that are there, and return whether the run is asked to stop.

    `summary`: what the summary that comes with them has as the metric.
    """
    begin = services.run(name).history_lines
    rows = tuple(json.dumps({"_step": begin + i, "loss": loss}) for i, loss in enumerate(losses))
    told = None if summary is None else json.dumps({"loss": summary})
    return services.stream(
        name, Chunk((Batch(Stream.HISTORY, begin, rows),), summary=told, exitcode=exitcode)
    )


def started(services: Services, sweep: str, agent: str) -> str:
    name = services.issued(agent)
    services.start(sweep, name)
    return name


def started_runs(services: Services, count: int, **config: Any) -> tuple[str, list[str], list[str]]:
    """Return a sweep, agents, and a started run of each."""
    sweep = services.sweep(grid(20, **config))
    agents = [services.agent(sweep) for _ in range(count)]
    return sweep, agents, [started(services, sweep, agent) for agent in agents]


def test_a_worse_run_is_stopped_when_it_reaches_a_band_and_told_at_every_beat(services: Services) -> None:
    _, agents, runs = started_runs(services, 3, early_terminate=RULE)
    assert not log(services, runs[0], 1, 1)
    assert not log(services, runs[1], 2)
    assert not log(services, runs[1], 2)
    assert log(services, runs[2], 3, 3)
    for _ in range(3):
        assert services.beat(agents[2], runs[2]) == {"type": "stop", "run_id": runs[2]}
    assert services.beat(agents[0], runs[0]) is None


def test_a_run_that_passes_many_bands_in_one_chunk_is_judged_at_the_first(services: Services) -> None:
    _, _, runs = started_runs(services, 2, early_terminate={**RULE, "eta": 3})
    log(services, runs[0], 1, 1, exitcode=0)
    assert log(services, runs[1], *[2] * 50)


def test_rows_without_the_metric_are_no_iterations(services: Services) -> None:
    _, _, runs = started_runs(services, 3, early_terminate=RULE)
    log(services, runs[0], 1, 1)
    log(services, runs[1], 1, 1)
    assert not log(services, runs[2], 9, None, float("nan"), "x")
    assert log(services, runs[2], 9)


def test_rows_that_wandb_sync_sends_again_are_no_iterations(services: Services) -> None:
    """The client sends all rows of the run's folder after those that the server has, with their steps."""
    _, _, (name,) = started_runs(services, 1, early_terminate=RULE)
    log(services, name, 4, 3, 2)
    rows = tuple(json.dumps({"_step": step, "loss": 4 - step}) for step in range(5))
    first, second = Batch(Stream.HISTORY, 3, rows[:2]), Batch(Stream.HISTORY, 5, rows[2:])
    for batch in (first, second, second):
        services.stream(name, Chunk((batch,)))
    assert services.run(name).metric_rows == 5


def test_a_maximized_metric_stops_the_lower_runs(services: Services) -> None:
    metric = {"name": "loss", "goal": "maximize"}
    _, _, runs = started_runs(services, 2, metric=metric, early_terminate={**RULE, "eta": 3})
    assert not log(services, runs[0], 5, 5)
    assert log(services, runs[1], 1, 1)


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
def test_at_a_band_a_run_has_the_value_that_its_summary_would_have(
    services: Services, summary: object, losses: tuple[int, int], stopped: bool, at_once: bool
) -> None:
    _, _, runs = started_runs(services, 2, early_terminate={**RULE, "eta": 3, "strict": True})
    log(services, runs[0], 5, 5)
    if at_once:
        assert log(services, runs[1], *losses, summary=summary) is stopped
    else:
        log(services, runs[1], losses[0], summary=summary)
        assert log(services, runs[1], losses[1]) is stopped


def test_a_run_that_is_on_while_the_server_is_replaced_goes_on_from_its_summary(services: Services) -> None:
    """A server from before knows how many rows it had, and not yet what counts of them."""
    _, _, runs = started_runs(services, 2, early_terminate={**RULE, "eta": 3, "strict": True})
    log(services, runs[0], 5, 5)
    log(services, runs[1], 1, summary={"mean": 1})
    with services.world.database.write() as transaction:
        change(transaction, services.run(runs[1]).id, {"metric_value": None})
    assert not log(services, runs[1], 9)
    assert services.run(runs[1]).metric_value == 5


def test_a_stopped_run_is_killed_and_its_value_counts(services: Services) -> None:
    _, _, runs = started_runs(services, 2, early_terminate={**RULE, "eta": 3})
    log(services, runs[0], 1, 1)
    log(services, runs[1], 2, 2)
    services.stream(runs[1], Chunk(summary='{"loss": 2}', exitcode=1))
    assert (services.run(runs[1]).state, services.run(runs[1]).value) == ("killed", 2)


def test_a_run_that_ends_by_itself_is_not_stopped_any_more(services: Services) -> None:
    _, _, runs = started_runs(services, 2, early_terminate={**RULE, "eta": 3})
    log(services, runs[0], 1, 1)
    log(services, runs[1], 2, 2, exitcode=0)
    assert (services.run(runs[1]).state, services.run(runs[1]).stop_requested) == ("finished", False)


@pytest.mark.parametrize(("goal", "value"), [("minimize", 0.5), ("maximize", 2.0)])
def test_a_reached_target_ends_the_sweep_and_lets_active_runs_finish(
    services: Services, goal: str, value: float
) -> None:
    metric = {"name": "loss", "goal": goal, "target": 1.0}
    sweep, agents, runs = started_runs(services, 2, metric=metric)
    log(services, runs[0], value)
    assert services.progress(sweep).state == "FINISHED"
    assert services.beat(agents[1], runs[1]) is None
    services.stream(runs[1], Chunk(exitcode=0))
    assert services.run(runs[1]).state == "finished"
    assert services.beat(agents[1]) == {"type": "exit"}


def test_a_target_that_is_only_in_the_summary_is_seen(services: Services) -> None:
    metric = {"name": "loss", "goal": "minimize", "target": 1.0}
    sweep, _, runs = started_runs(services, 1, metric=metric)
    services.stream(runs[0], Chunk(summary='{"loss": {"min": 0.5}}'))
    assert services.progress(sweep).state == "FINISHED"


@pytest.mark.parametrize(("summary", "state"), [(3, "FINISHED"), ({"mean": 3}, "RUNNING")])
def test_a_target_is_reached_by_what_counts(services: Services, summary: object, state: str) -> None:
    sweep, _, runs = started_runs(services, 1, metric={"name": "loss", "goal": "minimize", "target": 1.0})
    log(services, runs[0], 3, summary=summary)
    log(services, runs[0], 0.5)
    assert services.progress(sweep).state == state


def test_a_worker_that_runs_a_run_anew_begins_its_course_anew(services: Services) -> None:
    """1. It dies above the first band. 2. Its next attempt starts over, with steps that go on."""
    sweep, _, (better, retried) = started_runs(services, 2, early_terminate={**RULE, "eta": 3})
    log(services, better, *[1] * 6)
    services.start(sweep, retried, opener="w1")
    log(services, retried, *[0.5] * 5)
    services.start(sweep, retried, opener="w2")
    assert not log(services, retried, 9)
    assert (services.run(retried).metric_rows, services.run(retried).best_loss) == (1, 9)
    assert log(services, retried, 9)


def test_what_an_earlier_attempt_had_at_a_band_is_no_bar_for_others(services: Services) -> None:
    sweep, _, (retried, other) = started_runs(services, 2, early_terminate={**RULE, "eta": 3})
    services.start(sweep, retried, opener="w1")
    log(services, retried, 1, 1)
    services.start(sweep, retried, opener="w2")
    assert not log(services, other, 2, 2)


def test_a_run_that_is_only_changed_or_synced_goes_on_with_its_course(services: Services) -> None:
    sweep, _, (name,) = started_runs(services, 1, early_terminate=RULE)
    for opener in ("w1", "w1", "supervisor", "", "w1"):
        services.start(sweep, name, opener=opener)
        log(services, name, 1)
    assert services.run(name).metric_rows == 5


def test_a_preempted_run_goes_on_with_its_course_wherever_it_is_resumed(services: Services) -> None:
    sweep, _, (name,) = started_runs(services, 1, early_terminate=RULE)
    services.start(sweep, name, opener="w1")
    log(services, name, 1)
    services.stream(name, Chunk(preempting=True, exitcode=1))
    services.start(sweep, name, opener="w2")
    log(services, name, 1)
    assert services.run(name).metric_rows == 2


def test_the_search_is_told_how_far_a_stopped_run_got(services: Services) -> None:
    sweep, _, names = started_runs(services, 2, early_terminate={**RULE, "eta": 3})
    log(services, names[0], 1, 1, 1)
    assert log(services, names[1], 2, 2)
    for name, exitcode in zip(names, (0, 255), strict=True):
        services.stream(name, Chunk(summary='{"loss": 2}', exitcode=exitcode))
    with services.world.database.read() as transaction:
        told = {change.index: trial(change) for change in runs.changes_since(transaction, sweep, 0)}
    assert [(one.value, one.stopped_at) for _, one in sorted(told.items())] == [(2.0, None), (2.0, 2)]
