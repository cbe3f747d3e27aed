"""Runs that fork from another one, or are rewound to one of their steps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parallel_hpo.core.keys import SUPERVISOR
from parallel_hpo.server.rules.runs import BranchPoint, RunState, read_branch_point, read_step
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.store import lines, sweeps
from parallel_hpo.server.store import runs as runs_store
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError
from tests.server.server_logic import Services, grid

RULE = {"type": "hyperband", "min_iter": 2, "eta": 2}


def forking(parent: str, step: float) -> str:
    """Return the configuration of a run that forks from another one."""
    point = {"run_id": parent, "step": step}
    return json.dumps({"lr": {"value": 2}, "_wandb": {"value": {"branch_point": point}}})


def fork(services: Services, name: str, parent: str, step: float, **wishes: Any) -> Run:
    return services.upsert(name, config=forking(parent, step), **wishes)


def rewind(services: Services, name: str, step: float, metric: str = "_step", opener: str = "") -> Run:
    path = RunPath("local", "p", name)
    return run_service.rewind(services.world, path, metric, step, opener=opener)


def log(services: Services, name: str, *rows: Any, exitcode: int | None = None) -> None:
    """Log rows, or losses, and the summary that a client makes of them."""
    begin = services.run(name).history_lines
    whole = [
        row if isinstance(row, dict) else {"_step": begin + i, "loss": row} for i, row in enumerate(rows)
    ]
    summary = {key: value for row in whole for key, value in row.items()}
    services.log(name, *whole, summary=summary, exitcode=exitcode)


def told(services: Services, name: str, stream: Stream = Stream.HISTORY) -> list[str]:
    with services.world.database.read() as transaction:
        return list(lines.texts(transaction, services.run(name).id, stream))


def losses(services: Services, name: str) -> list[float]:
    return [json.loads(text)["loss"] for text in told(services, name)]


def summary(services: Services, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(services.run(name).summary)
    return found


def losses_at(services: Services, sweep: str, band: int) -> list[float]:
    with services.world.database.read() as transaction:
        return sorted(sweeps.losses_at_band(transaction, sweep, band).values())


@pytest.fixture
def parent(services: Services) -> str:
    """A run that ended, with five rows and console output."""
    services.upsert("parent", config='{"lr": {"value": 1}}')
    log(services, "parent", {"_step": 0, "loss": 0, "once": 7}, 1, 2, 3, 4)
    said = (Batch(Stream.CONSOLE, 0, ("old",) * 3), Batch(Stream.EVENTS, 0, ('{"cpu": 1}',)))
    services.stream("parent", Chunk(said, exitcode=1))
    return "parent"


def test_a_fork_begins_with_its_parents_history_up_to_the_step(services: Services, parent: str) -> None:
    made = fork(services, "fork", parent, 2)
    assert losses(services, "fork") == [0, 1, 2]
    assert made.history_lines == 3
    assert json.loads(made.summary) == {"_step": 2, "loss": 2, "once": 7}
    keys = json.loads(made.history_keys)
    assert (keys["lastStep"], keys["keys"]["loss"]["typeCounts"][0]["count"]) == (2, 3)
    assert (made.state, made.log_lines, made.config) == (RunState.RUNNING, 0, forking(parent, 2))


def test_a_fork_or_rewind_that_removes_no_rows_keeps_the_summary(services: Services, parent: str) -> None:
    services.edit(parent, summary='{"loss": {"min": 0}}')
    assert json.loads(fork(services, "fork", parent, 4).summary) == {"loss": {"min": 0}}
    assert json.loads(rewind(services, parent, 4).summary) == {"loss": {"min": 0}}
    assert json.loads(rewind(services, parent, 3).summary)["loss"] == 3


def test_a_fork_of_an_unknown_run_is_refused_and_creates_no_run(services: Services, parent: str) -> None:
    with pytest.raises(RefusedError, match="run nobody of project local/p doesn't exist: fork_from"):
        fork(services, "fork", "nobody", 2)
    with services.world.database.read() as transaction:
        assert runs_store.at(transaction, RunPath("local", "p", "fork")) is None


def test_resending_a_forks_configuration_does_not_fork_it_again(services: Services, parent: str) -> None:
    fork(services, "fork", parent, 2)
    log(services, "fork", 9)
    assert fork(services, "fork", parent, 2).history_lines == 4


def test_a_rewound_run_continues_after_the_given_step(services: Services, parent: str) -> None:
    services.request_stop(parent)
    rewound = rewind(services, parent, 2.9)
    assert (rewound.state, rewound.exitcode, rewound.stop_requested) == (RunState.RUNNING, None, False)
    assert (rewound.name, rewound.history_lines, rewound.config) == (parent, 3, '{"lr": {"value": 1}}')
    assert json.loads(rewound.summary) == {"_step": 2, "loss": 2, "once": 7}
    log(services, parent, 9)
    assert losses(services, parent) == [0, 1, 2, 9]
    assert summary(services, parent) == {"_step": 3, "loss": 9, "once": 7}
    assert json.loads(services.run(parent).history_keys)["lastStep"] == 3


def test_rewinding_a_run_clears_its_console_and_system_metrics(services: Services, parent: str) -> None:
    rewound = rewind(services, parent, 2)
    assert (rewound.log_lines, rewound.event_lines, rewound.system_metrics) == (0, 0, "{}")
    services.stream(parent, Chunk((Batch(Stream.CONSOLE, 0, ("new",)),)))
    assert (told(services, parent, Stream.CONSOLE), told(services, parent, Stream.EVENTS)) == (["new"], [])


def test_rewinding_a_run_beyond_its_end_or_twice_changes_nothing(services: Services, parent: str) -> None:
    assert rewind(services, parent, 99).history_lines == 5
    first = rewind(services, parent, 2)
    assert rewind(services, parent, 2) == first


def test_rewinding_a_run_removes_later_rows_without_a_step(services: Services, parent: str) -> None:
    log(services, parent, {"loss": 5}, 6)
    assert rewind(services, parent, 4).history_lines == 5
    assert losses(services, parent) == [0, 1, 2, 3, 4]


def test_an_impossible_rewind_is_refused_with_a_reason(services: Services, parent: str) -> None:
    with pytest.raises(RefusedError, match="run local/p/nobody doesn't exist: resume_from"):
        rewind(services, "nobody", 2)
    with pytest.raises(RefusedError, match="rewound by their _step, not by 'loss'"):
        rewind(services, parent, 2, metric="loss")


@pytest.mark.parametrize("step", [-1, float("nan"), float("inf"), 2.0**63, "3", None, True])
def test_an_invalid_step_is_refused(step: object) -> None:
    with pytest.raises(RefusedError, match=r"_step=.*: a run branches off at a step of its history"):
        read_step(step)


@pytest.mark.parametrize(
    ("config", "point"),
    [
        ({}, None),
        ({"_wandb": 3}, None),
        ({"_wandb": {"value": {"branch_point": None}}}, None),
        (json.loads(forking("r", 7.0)), BranchPoint("r", 7)),
    ],
)
def test_a_branch_point_needs_a_run_and_a_step(config: dict[str, Any], point: BranchPoint | None) -> None:
    assert read_branch_point(config) == point
    with pytest.raises(RefusedError, match="must name a run_id and a step"):
        read_branch_point({"_wandb": {"value": {"branch_point": {"step": 3}}}})


def test_rewinding_a_run_is_reported_to_the_engine_of_its_sweep(services: Services) -> None:
    name = services.begun(services.sweep(grid(3)))
    log(services, name, 3, 2, 1, exitcode=0)
    before = services.run(name)
    rewound = rewind(services, name, 1)
    assert (before.value, rewound.value) == (1, None)
    assert rewound.sweep_revision > before.sweep_revision
    log(services, name, 5, exitcode=0)
    assert services.run(name).value == 5


def test_a_rewound_run_keeps_only_the_bands_of_its_remaining_rows(services: Services) -> None:
    sweep = services.sweep(grid(3, early_terminate=RULE))
    name = services.begun(sweep)
    log(services, name, 5, 4, 3, 2)
    assert (losses_at(services, sweep, 2), losses_at(services, sweep, 4)) == ([4], [2])
    rewound = rewind(services, name, 2)
    assert (rewound.metric_rows, rewound.best_loss) == (3, 3)
    assert (losses_at(services, sweep, 2), losses_at(services, sweep, 4)) == ([4], [])
    log(services, name, 9)
    assert losses_at(services, sweep, 4) == [9]


def test_early_stopping_judges_a_rewound_run_by_its_next_row(services: Services) -> None:
    sweep = services.sweep(grid(3, early_terminate=RULE))
    worse, *others = [services.begun(sweep) for _ in range(3)]
    log(services, worse, 9, 9)
    for other in others:
        log(services, other, 1, 1)
    assert not rewind(services, worse, 1).stop_requested
    log(services, worse, 9)
    assert services.run(worse).stop_requested


def forked(services: Services) -> tuple[str, str, str]:
    """Return a sweep, a run that ended with three losses, and one that has begun as its fork at step 1."""
    sweep = services.sweep(grid(3, early_terminate=RULE))
    parent, name = services.begun(sweep), services.issued(services.agent(sweep))
    log(services, parent, 5, 4, 3, exitcode=0)
    begun = fork(services, name, parent, 1, sweep=sweep)
    assert (begun.history_lines, begun.metric_rows, begun.best_loss) == (2, 2, 4)
    log(services, name, 9)
    return sweep, parent, name


def test_an_issued_run_may_begin_as_a_fork_at_each_attempt(services: Services) -> None:
    sweep, parent, name = forked(services)
    again = fork(services, name, parent, 1, sweep=sweep)
    assert (again.history_lines, again.metric_rows, again.best_loss) == (2, 2, 4)
    log(services, name, 8)
    assert losses(services, name) == [5, 4, 8]
    services.start(sweep, name)
    assert services.run(name).inherited is None


def test_a_late_upload_by_a_supervisor_does_not_fork_or_rewind_a_run_again(services: Services) -> None:
    """The server may have more of the attempt than the dead client's disk."""
    sweep, parent, name = forked(services)
    fork(services, name, parent, 1, sweep=sweep, opener=SUPERVISOR)
    rewound = rewind(services, parent, 0, opener=SUPERVISOR)
    assert (losses(services, name), losses(services, parent)) == ([5, 4, 9], [5, 4, 3])
    assert rewound.state is RunState.RUNNING


def test_an_agent_keeps_a_run_that_it_rewinds_and_is_not_held_up_by_another(services: Services) -> None:
    agent = services.agent(sweep := services.sweep(grid(3)))
    first = services.perform(sweep, agent)
    rewind(services, first, 0)
    assert services.beat(agent, first) is None
    assert services.run(first).state is RunState.RUNNING
    assert services.issued(agent) != first


def test_a_retry_that_rewinds_its_run_continues_with_the_remaining_rows(services: Services) -> None:
    sweep = services.sweep(grid(3, early_terminate=RULE))
    name = services.issued(services.agent(sweep, "0w1"))
    services.start(sweep, name, opener="0w1")
    log(services, name, 5, 4, 3)
    rewound = rewind(services, name, 1, opener="0w2")
    assert (rewound.metric_rows, rewound.opened_by) == (2, "0w2")
    services.upsert(name, "0w2", id=rewound.id, sweep=sweep)
    assert (services.run(name).metric_rows, losses_at(services, sweep, 2)) == (2, [4])
