"""Agents on a sweep, with a real database and a clock that stands still."""

from __future__ import annotations

from typing import Any

import pytest

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.store import runs
from parallel_hpo.server.values import RefusedError
from tests.server.acting import METRIC, SessionSetup, grid


def test_a_grid_gives_each_point_once_and_then_ends_the_sweep(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    agent = stage.agent(sweep)
    points = []
    for _ in range(3):
        command = stage.beat(agent)
        assert command is not None
        points.append(command["args"]["x"]["value"])
        stage.finish(sweep, command["run_id"])
    assert sorted(points) == [0, 1, 2]
    assert stage.beat(agent) == {"type": "exit"}
    assert stage.progress(sweep).state == "FINISHED"


def test_a_command_carries_nested_parameters_and_the_program(stage: SessionSetup) -> None:
    nested = {"opt": {"parameters": {"lr": {"value": 0.1}}}}
    sweep = stage.sweep({"method": "grid", "program": "train.py", "parameters": nested})
    command = stage.beat(stage.agent(sweep))
    assert command is not None
    assert command["args"] == {"opt": {"value": {"lr": 0.1}}}
    assert command["program"] == "train.py"


def test_a_lost_answer_is_given_again_with_the_same_run_and_parameters(stage: SessionSetup) -> None:
    agent = stage.agent(stage.sweep(grid(3)))
    assert stage.beat(agent) == stage.beat(agent)


def test_a_run_whose_function_never_starts_it_fails_after_its_second_delivery(stage: SessionSetup) -> None:
    agent = stage.agent(stage.sweep(grid(3)))
    first = stage.issued(agent)
    assert stage.issued(agent) == first
    assert stage.issued(agent) != first
    assert stage.run(first).state is RunState.FAILED


def test_a_finished_run_that_the_agent_still_lists_does_not_hold_up_the_next(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    agent = stage.agent(sweep)
    first = stage.perform(sweep, agent)
    command = stage.beat(agent, first)
    assert command is not None
    assert command["run_id"] != first


def test_a_run_cap_ends_the_sweep(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(5, run_cap=2))
    agent = stage.agent(sweep)
    stage.perform(sweep, agent)
    stage.perform(sweep, agent)
    assert stage.beat(agent) == {"type": "exit"}


def test_at_the_end_of_a_grid_an_idle_agent_waits_for_a_run_that_may_come_back(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(1))
    busy, idle = stage.agent(sweep, "w0"), stage.agent(sweep, "w1")
    name = stage.issued(busy)
    assert stage.beat(idle) is None
    stage.release(sweep, "w0")
    assert stage.issued(idle) == name


def test_a_release_gives_back_only_runs_that_never_started(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(5))
    started, unstarted, other = (stage.agent(sweep, label) for label in ("w0_1", "w0_2", "w1_1"))
    stage.start(sweep, stage.issued(started))
    name = stage.issued(unstarted)
    stage.issued(other)
    assert stage.release(sweep, "w0_") == [name]
    assert stage.release(sweep, "w0_") == []
    assert stage.run(name).state is RunState.PENDING


def test_a_released_agent_is_told_to_exit(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(5))
    agent = stage.agent(sweep, "w0")
    name = stage.issued(agent)
    stage.release(sweep, "w0")
    assert stage.beat(agent, name) == {"type": "exit"}


def test_a_run_that_the_supervisor_keeps_is_handed_to_nobody(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(5))
    kept = stage.issued(stage.agent(sweep, "w0_"))
    assert stage.release(sweep, "w0_", kept) == []
    assert stage.run(kept).state is RunState.RUNNING
    assert stage.issued(stage.agent(sweep, "w1_")) != kept


def test_a_run_that_its_supervisor_keeps_is_not_given_to_others(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(2))
    kept = stage.issued(stage.agent(sweep, "w0"))
    assert stage.release(sweep, "w0", kept) == []
    other = stage.agent(sweep, "w1")
    assert stage.perform(sweep, other) != kept
    assert stage.beat(other) == {"type": "exit"}
    stage.finish(sweep, kept)
    assert stage.run(kept).state is RunState.FINISHED


def test_a_workers_next_agent_takes_over_what_its_last_one_never_started(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(5))
    first = stage.agent(sweep, "w0")
    name = stage.issued(first)
    second = stage.agent(sweep, "w0")
    assert stage.issued(second) == name
    assert stage.beat(first) == {"type": "exit"}


@pytest.mark.parametrize("prefix", ["m_1", "m_1_", "m", "m_"])
def test_a_label_is_known_by_its_first_words(stage: SessionSetup, prefix: str) -> None:
    sweep = stage.sweep(grid(5))
    name = stage.issued(stage.agent(sweep, "m_1"))
    assert stage.release(sweep, prefix) == [name]


@pytest.mark.parametrize("prefix", ["m_1", "m_", "_", "%"])
def test_a_label_that_begins_with_other_words_is_left_alone(stage: SessionSetup, prefix: str) -> None:
    sweep = stage.sweep(grid(5))
    stage.issued(stage.agent(sweep, "mx_12"))
    stage.issued(stage.agent(sweep))
    assert stage.release(sweep, prefix) == []


def test_a_release_of_everybody_is_refused(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(5))
    with pytest.raises(RefusedError, match="must not be empty"):
        stage.release(sweep, "")


def test_a_strangers_preempted_run_is_resumed_by_the_next_agent(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(5))
    agent = stage.agent(sweep)
    name = stage.issued(agent)
    stage.start(sweep, name)
    stage.stream(name, Chunk(preempting=True))
    stage.stream(name, Chunk(exitcode=1))
    command = stage.beat(stage.agent(sweep))
    assert command is not None
    assert (command["type"], command["run_id"]) == ("resume", name)
    assert stage.run(name).state is RunState.PENDING


def test_a_workers_preempted_run_is_left_to_its_supervisor(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(5))
    name = stage.issued(stage.agent(sweep, "w0"))
    stage.start(sweep, name)
    stage.stream(name, Chunk(preempting=True, exitcode=1))
    assert stage.run(name).state is RunState.PREEMPTED
    assert stage.issued(stage.agent(sweep, "w1")) != name


def test_a_paused_sweep_holds_its_agents_and_goes_on_when_it_is_resumed(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    agent = stage.agent(sweep)
    stage.set_state(sweep, "PAUSED")
    assert stage.beat(agent) is None
    assert stage.beat(stage.agent(sweep)) is None
    stage.set_state(sweep, "RUNNING")
    assert stage.issued(agent)


def test_a_canceled_sweep_stops_its_runs_which_are_killed(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    agent = stage.agent(sweep)
    name = stage.issued(agent)
    stage.start(sweep, name)
    stage.set_state(sweep, "CANCELED")
    assert stage.beat(agent, name) == {"type": "exit"}
    assert stage.stream(name, Chunk())
    stage.stream(name, Chunk(exitcode=1))
    assert stage.run(name).state is RunState.KILLED


@pytest.mark.parametrize("state", ["FINISHED", "CANCELED"])
def test_no_agent_can_join_a_sweep_that_is_over(stage: SessionSetup, state: str) -> None:
    sweep = stage.sweep(grid(3))
    stage.set_state(sweep, state)
    with pytest.raises(RefusedError, match="is not running") as refusal:
        stage.agent(sweep)
    assert refusal.value.status == 400


def test_an_unknown_sweep_and_an_unknown_agent_are_not_found(stage: SessionSetup) -> None:
    with pytest.raises(RefusedError) as refusal:
        stage.agent("nosweep")
    assert refusal.value.status == 404
    with pytest.raises(RefusedError) as refusal:
        stage.beat("noagent")
    assert refusal.value.status == 404


def test_the_engine_learns_from_results_that_another_process_wrote(stage: SessionSetup) -> None:
    space = {"x": {"min": 0.0, "max": 1.0}}
    sweep = stage.sweep({"method": "random", "metric": METRIC, "parameters": space})
    agent = stage.agent(sweep)
    stage.finish(sweep, stage.issued(agent), loss=0.25)
    stage.forget_engines()
    second = stage.issued(agent)
    with stage.world.database.read() as transaction:
        told = list(runs.changes_since(transaction, sweep, 0))
    assert [(change.index, change.value) for change in told] == [(0, 0.25), (1, None)]
    assert stage.run(second).sweep_index == 1


@pytest.mark.parametrize(
    ("summary", "exitcode", "value"),
    [
        ('{"loss": 2}', 0, 2.0),
        ('{"loss": NaN}', 0, None),
        ('{"loss": "2"}', 0, None),
        ("{}", 0, None),
        ('{"loss": {"min": 3}}', 0, 3.0),
        ('{"loss": 2}', 1, None),
    ],
)
def test_only_a_finished_runs_finite_number_counts(
    stage: SessionSetup, summary: str, exitcode: int, value: float | None
) -> None:
    sweep = stage.sweep(grid(3))
    name = stage.issued(stage.agent(sweep))
    stage.start(sweep, name)
    stage.stream(name, Chunk(summary=summary, exitcode=exitcode))
    assert stage.run(name).value == value


def test_of_a_summarised_metric_the_goals_counts(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3, metric=METRIC | {"goal": "maximize"}))
    name = stage.issued(stage.agent(sweep))
    stage.start(sweep, name)
    stage.stream(name, Chunk(summary='{"loss": {"min": 3, "max": 4}}', exitcode=0))
    assert stage.run(name).value == 4.0


def test_nobody_waits_for_a_run_that_its_own_supervisor_runs_again(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(1))
    name = stage.issued(stage.agent(sweep, "w0"))
    stage.start(sweep, name)
    stage.stream(name, Chunk(preempting=True))
    assert stage.beat(stage.agent(sweep, "w1")) == {"type": "exit"}


def test_a_workers_agent_is_told_a_runs_place_beside_each_parameter_and_again_with_the_same_run(
    stage: SessionSetup,
) -> None:
    sweep = stage.sweep(grid(3))
    first, second = stage.agent(sweep, "w0"), stage.agent(sweep, "w1")
    commands = [stage.beat(agent) for agent in (first, second, first)]
    assert [command and command["args"] for command in commands] == [
        {"x": {"value": place, "place": place}} for place in (0, 1, 0)
    ]
    stage.release(sweep, "w0")
    taken = stage.beat(stage.agent(sweep, "w2"))
    assert taken is not None
    assert taken["args"] == {"x": {"value": 0, "place": 0}}, "whoever takes it, its place is its own"


def test_a_strangers_agent_is_told_parameters_as_wandb_tells_them(stage: SessionSetup) -> None:
    command = stage.beat(stage.agent(stage.sweep(grid(3))))
    assert command is not None
    assert command["args"] == {"x": {"value": 0}}


def test_a_sweep_that_is_made_again_with_its_seed_draws_the_same_parameters(stage: SessionSetup) -> None:
    chance = {"method": "random", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}}}

    def drawn(config: dict[str, Any]) -> list[Any]:
        sweep = stage.sweep(config)
        agents = [stage.agent(sweep, f"w{number}") for number in range(3)]
        return [command and command["args"]["x"]["value"] for command in map(stage.beat, agents)]

    assert drawn(chance | {"parallel_hpo_seed": 3}) == drawn(chance | {"parallel_hpo_seed": 3})
    assert drawn(chance | {"parallel_hpo_seed": 3}) != drawn(chance | {"parallel_hpo_seed": 4})


def test_a_seed_that_is_none_is_refused_with_its_key(stage: SessionSetup) -> None:
    with pytest.raises(RefusedError, match="parallel_hpo_seed"):
        stage.sweep(grid(3, parallel_hpo_seed=-1))
