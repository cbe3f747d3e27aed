"""Agents on a sweep, with a real database and a clock that stands still."""

from __future__ import annotations

from typing import Any

import pytest

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.store import runs
from parallel_hpo.server.values import RefusedError
from tests.server.acting import METRIC, Services, grid


def test_a_grid_gives_each_point_once_and_then_ends_the_sweep(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    assert services.points(agent, sweep) == [0, 1, 2]
    assert services.beat(agent) == {"type": "exit"}
    assert services.progress(sweep).state == "FINISHED"


def test_a_command_carries_nested_parameters_and_the_program(services: Services) -> None:
    nested = {"opt": {"parameters": {"lr": {"value": 0.1}}}}
    sweep = services.sweep({"method": "grid", "program": "train.py", "parameters": nested})
    command = services.beat(services.agent(sweep))
    assert command is not None
    assert command["args"] == {"opt": {"value": {"lr": 0.1}}}
    assert command["program"] == "train.py"


def test_a_run_whose_function_never_starts_it_fails_after_its_second_delivery(services: Services) -> None:
    agent = services.agent(services.sweep(grid(3)))
    first = services.issued(agent)
    assert services.issued(agent) == first
    assert services.issued(agent) != first
    assert services.run(first).state is RunState.FAILED


def test_a_finished_run_that_the_agent_still_lists_does_not_hold_up_the_next(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    first = services.perform(sweep, agent)
    command = services.beat(agent, first)
    assert command is not None
    assert command["run_id"] != first


def test_at_the_end_of_a_grid_an_idle_agent_waits_for_a_run_that_may_come_back(services: Services) -> None:
    sweep = services.sweep(grid(1))
    busy, idle = services.agent(sweep, "w0"), services.agent(sweep, "w1")
    name = services.issued(busy)
    assert services.beat(idle) is None
    services.release(sweep, "w0")
    assert services.issued(idle) == name


def test_a_release_gives_back_only_runs_that_never_started(services: Services) -> None:
    sweep = services.sweep(grid(5))
    started, unstarted, other = (services.agent(sweep, label) for label in ("w0_1", "w0_2", "w1_1"))
    services.start(sweep, services.issued(started))
    name = services.issued(unstarted)
    services.issued(other)
    assert services.release(sweep, "w0_") == [name]
    assert services.release(sweep, "w0_") == []
    assert services.run(name).state is RunState.PENDING


def test_a_released_agent_is_told_to_exit(services: Services) -> None:
    sweep = services.sweep(grid(5))
    agent = services.agent(sweep, "w0")
    name = services.issued(agent)
    services.release(sweep, "w0")
    assert services.beat(agent, name) == {"type": "exit"}


def test_a_run_that_its_supervisor_keeps_is_not_given_to_others(services: Services) -> None:
    sweep = services.sweep(grid(2))
    kept = services.issued(services.agent(sweep, "w0"))
    assert services.release(sweep, "w0", kept) == []
    assert services.run(kept).state is RunState.RUNNING
    other = services.agent(sweep, "w1")
    assert services.perform(sweep, other) != kept
    assert services.beat(other) == {"type": "exit"}
    services.finish(sweep, kept)
    assert services.run(kept).state is RunState.FINISHED


def test_a_workers_next_agent_takes_over_what_its_last_one_never_started(services: Services) -> None:
    sweep = services.sweep(grid(5))
    first = services.agent(sweep, "w0")
    name = services.issued(first)
    second = services.agent(sweep, "w0")
    assert services.issued(second) == name
    assert services.beat(first) == {"type": "exit"}


@pytest.mark.parametrize("prefix", ["m_1", "m_1_", "m", "m_"])
def test_a_label_is_known_by_its_first_words(services: Services, prefix: str) -> None:
    sweep = services.sweep(grid(5))
    name = services.issued(services.agent(sweep, "m_1"))
    assert services.release(sweep, prefix) == [name]


@pytest.mark.parametrize("prefix", ["m_1", "m_", "_", "%"])
def test_a_label_that_begins_with_other_words_is_left_alone(services: Services, prefix: str) -> None:
    sweep = services.sweep(grid(5))
    services.issued(services.agent(sweep, "mx_12"))
    services.issued(services.agent(sweep))
    assert services.release(sweep, prefix) == []


def test_a_release_of_everybody_is_refused(services: Services) -> None:
    sweep = services.sweep(grid(5))
    with pytest.raises(RefusedError, match="must not be empty"):
        services.release(sweep, "")


def test_a_strangers_preempted_run_is_resumed_by_the_next_agent(services: Services) -> None:
    sweep = services.sweep(grid(5))
    agent = services.agent(sweep)
    name = services.issued(agent)
    services.start(sweep, name)
    services.stream(name, Chunk(preempting=True))
    services.stream(name, Chunk(exitcode=1))
    command = services.beat(services.agent(sweep))
    assert command is not None
    assert (command["type"], command["run_id"]) == ("resume", name)
    assert services.run(name).state is RunState.PENDING


def test_a_workers_preempted_run_is_left_to_its_supervisor(services: Services) -> None:
    sweep = services.sweep(grid(5))
    name = services.begun(sweep, "w0")
    services.stream(name, Chunk(preempting=True, exitcode=1))
    assert services.run(name).state is RunState.PREEMPTED
    assert services.issued(services.agent(sweep, "w1")) != name


def test_a_paused_sweep_holds_its_agents_and_goes_on_when_it_is_resumed(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    services.set_state(sweep, "PAUSED")
    assert services.beat(agent) is None
    assert services.beat(services.agent(sweep)) is None
    services.set_state(sweep, "RUNNING")
    assert services.issued(agent)


def test_a_canceled_sweep_stops_its_runs_which_are_killed(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    name = services.issued(agent)
    services.start(sweep, name)
    services.set_state(sweep, "CANCELED")
    assert services.beat(agent, name) == {"type": "exit"}
    assert services.stream(name, Chunk())
    services.stream(name, Chunk(exitcode=1))
    assert services.run(name).state is RunState.KILLED


@pytest.mark.parametrize("state", ["FINISHED", "CANCELED"])
def test_no_agent_can_join_a_sweep_that_is_over(services: Services, state: str) -> None:
    sweep = services.sweep(grid(3))
    services.set_state(sweep, state)
    with pytest.raises(RefusedError, match="is not running") as refusal:
        services.agent(sweep)
    assert refusal.value.status == 400


def test_an_unknown_sweep_and_an_unknown_agent_are_not_found(services: Services) -> None:
    with pytest.raises(RefusedError) as refusal:
        services.agent("nosweep")
    assert refusal.value.status == 404
    with pytest.raises(RefusedError) as refusal:
        services.beat("noagent")
    assert refusal.value.status == 404


def test_the_engine_learns_from_results_that_another_process_wrote(services: Services) -> None:
    space = {"x": {"min": 0.0, "max": 1.0}}
    sweep = services.sweep({"method": "random", "metric": METRIC, "parameters": space})
    agent = services.agent(sweep)
    services.finish(sweep, services.issued(agent), loss=0.25)
    services.forget_engines()
    second = services.issued(agent)
    with services.world.database.read() as transaction:
        told = list(runs.changes_since(transaction, sweep, 0))
    assert [(change.index, change.value) for change in told] == [(0, 0.25), (1, None)]
    assert services.run(second).sweep_index == 1


@pytest.mark.parametrize(
    ("summary", "exitcode", "goal", "value"),
    [
        ('{"loss": 2}', 0, "minimize", 2.0),
        ('{"loss": NaN}', 0, "minimize", None),
        ('{"loss": "2"}', 0, "minimize", None),
        ("{}", 0, "minimize", None),
        ('{"loss": {"min": 3, "max": 4}}', 0, "minimize", 3.0),
        ('{"loss": {"min": 3, "max": 4}}', 0, "maximize", 4.0),
        ('{"loss": 2}', 1, "minimize", None),
    ],
)
def test_only_a_finished_runs_finite_number_counts_of_a_summary_the_goals(
    services: Services, summary: str, exitcode: int, goal: str, value: float | None
) -> None:
    sweep = services.sweep(grid(3, metric=METRIC | {"goal": goal}))
    name = services.begun(sweep)
    services.stream(name, Chunk(summary=summary, exitcode=exitcode))
    assert services.run(name).value == value


def test_nobody_waits_for_a_run_that_its_own_supervisor_runs_again(services: Services) -> None:
    sweep = services.sweep(grid(1))
    name = services.begun(sweep, "w0")
    services.stream(name, Chunk(preempting=True))
    assert services.beat(services.agent(sweep, "w1")) == {"type": "exit"}


def test_a_workers_agent_is_told_a_runs_place_beside_each_parameter_and_again_with_the_same_run(
    services: Services,
) -> None:
    sweep = services.sweep(grid(3))
    first, second = services.agent(sweep, "w0"), services.agent(sweep, "w1")
    commands = [services.beat(agent) for agent in (first, second, first)]
    assert [command and command["args"] for command in commands] == [
        {"x": {"value": place, "place": place}} for place in (0, 1, 0)
    ]
    services.release(sweep, "w0")
    taken = services.beat(services.agent(sweep, "w2"))
    assert taken is not None
    assert taken["args"] == {"x": {"value": 0, "place": 0}}, "whoever takes it, its place is its own"


def test_a_sweep_that_is_made_again_with_its_seed_draws_the_same_parameters(services: Services) -> None:
    chance = {"method": "random", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}}}

    def drawn(config: dict[str, Any]) -> list[Any]:
        sweep = services.sweep(config)
        agents = [services.agent(sweep, f"w{number}") for number in range(3)]
        return [command and command["args"]["x"]["value"] for command in map(services.beat, agents)]

    assert drawn(chance | {"parallel_hpo_seed": 3}) == drawn(chance | {"parallel_hpo_seed": 3})
    assert drawn(chance | {"parallel_hpo_seed": 3}) != drawn(chance | {"parallel_hpo_seed": 4})


def test_a_seed_that_is_none_is_refused_with_its_key(services: Services) -> None:
    with pytest.raises(RefusedError, match="parallel_hpo_seed"):
        services.sweep(grid(3, parallel_hpo_seed=-1))
