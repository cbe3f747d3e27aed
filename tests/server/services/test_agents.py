"""Agents of a sweep: the runs they get, also after agents leave, fall silent or return."""

from __future__ import annotations

from typing import Any

import pytest

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.services.run_transitions import apply_timeouts
from parallel_hpo.server.store import runs
from parallel_hpo.server.values import RefusedError
from tests.server.server_logic import METRIC, SILENCE_S, Services, grid

RANDOM = {"method": "random", "metric": METRIC, "parameters": {"x": {"min": 0.0, "max": 1.0}}}
EXIT = {"type": "exit"}


def test_a_grid_issues_each_point_once_and_then_ends_the_sweep(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    assert services.points(agent, sweep) == [0, 1, 2]
    assert services.beat(agent) == EXIT
    assert services.state(sweep) == "FINISHED"


def test_a_command_carries_nested_parameters_and_the_program(services: Services) -> None:
    nested = {"opt": {"parameters": {"lr": {"value": 0.1}}}}
    sweep = services.sweep({"method": "grid", "program": "train.py", "parameters": nested})
    command = services.command(services.agent(sweep))
    assert (command["args"], command["program"]) == ({"opt": {"value": {"lr": 0.1}}}, "train.py")


def test_a_finished_run_that_the_agent_still_lists_does_not_hold_up_the_next(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    first = services.perform(sweep, agent)
    assert services.command(agent, first)["run_id"] != first


def test_at_the_end_of_a_grid_an_idle_agent_waits_for_runs_that_may_be_released(services: Services) -> None:
    sweep = services.sweep(grid(1))
    busy, idle = services.agent(sweep, "w0"), services.agent(sweep, "w1")
    name = services.issued(busy)
    assert services.beat(idle) is None
    services.release(sweep, "w0")
    assert services.issued(idle) == name
    assert services.beat(busy, name) == EXIT, "a released agent may not return"


def test_a_release_gives_back_only_runs_that_never_started(services: Services) -> None:
    sweep = services.sweep(grid(5))
    services.begun(sweep, "w0_1")
    unstarted, _ = (services.issued(services.agent(sweep, label)) for label in ("w0_2", "w1_1"))
    assert services.release(sweep, "w0_") == [unstarted]
    assert services.release(sweep, "w0_") == []
    assert services.run(unstarted).state is RunState.PENDING


def test_a_run_that_its_supervisor_keeps_is_not_issued_to_other_agents(services: Services) -> None:
    sweep = services.sweep(grid(2))
    kept = services.issued(services.agent(sweep, "w0"))
    assert services.release(sweep, "w0", kept) == []
    assert services.run(kept).state is RunState.RUNNING
    other = services.agent(sweep, "w1")
    assert services.perform(sweep, other) != kept
    assert services.beat(other) == EXIT


def test_a_workers_next_agent_takes_over_the_unstarted_run_of_the_previous_one(services: Services) -> None:
    sweep = services.sweep(grid(5))
    first = services.agent(sweep, "w0")
    name = services.issued(first)
    assert services.issued(services.agent(sweep, "w0")) == name
    assert services.beat(first) == EXIT


@pytest.mark.parametrize(
    ("label", "prefix", "is_its"),
    [
        *(("m_1", prefix, True) for prefix in ("m_1", "m_1_", "m", "m_")),
        *(("mx_12", prefix, False) for prefix in ("m_1", "m_", "_", "%")),
        ("", "m", False),
    ],
)
def test_label_prefixes_match_whole_words(services: Services, label: str, prefix: str, is_its: bool) -> None:
    sweep = services.sweep(grid(5))
    name = services.issued(services.agent(sweep, label))
    assert services.release(sweep, prefix) == ([name] if is_its else [])


def test_agents_do_not_wait_for_the_preempted_run_of_a_worker(services: Services) -> None:
    sweep = services.sweep(grid(2))
    first, second = services.begun(sweep, "w0"), services.begun(sweep, "w1")
    services.stream(first, Chunk(preempting=True))
    services.stream(second, Chunk(preempting=True, exitcode=1))
    assert services.run(second).state is RunState.PREEMPTED
    assert services.beat(services.agent(sweep, "w2")) == EXIT


def test_the_runs_of_a_cancelled_sweep_are_stopped_and_killed(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    name = services.issued(agent)
    services.start(sweep, name)
    services.set_state(sweep, "CANCELED")
    assert services.beat(agent, name) == EXIT
    assert services.stream(name, Chunk())
    services.end(name, exitcode=1)
    assert services.run(name).state is RunState.KILLED


@pytest.mark.parametrize("state", ["FINISHED", "CANCELED"])
def test_no_agent_can_join_an_ended_sweep(services: Services, state: str) -> None:
    sweep = services.sweep(grid(3))
    services.set_state(sweep, state)
    with pytest.raises(RefusedError, match="is not running") as refusal:
        services.agent(sweep)
    assert refusal.value.status == 400


@pytest.mark.parametrize("ask", [Services.agent, Services.enqueue, Services.beat])
def test_an_unknown_sweep_or_agent_is_not_found(services: Services, ask: Any) -> None:
    with pytest.raises(RefusedError, match="doesn't exist") as refusal:
        ask(services, "nothing")
    assert refusal.value.status == 404


def test_the_engine_learns_from_results_that_another_process_wrote(services: Services) -> None:
    sweep = services.sweep(RANDOM)
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
def test_a_finished_runs_value_is_its_finite_summary_value_for_the_goal(
    services: Services, summary: str, exitcode: int, goal: str, value: float | None
) -> None:
    name = services.begun(services.sweep(grid(3, metric=METRIC | {"goal": goal})))
    services.end(name, exitcode, summary)
    assert services.run(name).value == value


def test_a_workers_command_contains_the_runs_index_whoever_takes_it(services: Services) -> None:
    sweep = services.sweep(grid(3))
    first, second = services.agent(sweep, "w0"), services.agent(sweep, "w1")
    told = [services.command(agent)["args"] for agent in (first, second, first)]
    assert told == [{"x": {"value": place, "place": place}} for place in (0, 1, 0)]
    services.release(sweep, "w0")
    assert services.command(services.agent(sweep, "w2"))["args"] == {"x": {"value": 0, "place": 0}}


def test_sweeps_with_the_same_seed_draw_the_same_parameters(services: Services) -> None:
    def drawn(seed: int) -> list[Any]:
        sweep = services.sweep(RANDOM | {"parallel_hpo_seed": seed})
        agents = [services.agent(sweep, f"w{number}") for number in range(3)]
        return [services.command(agent)["args"]["x"]["value"] for agent in agents]

    assert drawn(3) == drawn(3) != drawn(4)


def test_a_stopped_run_that_falls_silent_is_killed(services: Services) -> None:
    name = services.begun(services.sweep(grid(3)))
    services.stream(name, Chunk(summary='{"loss": 2}'))
    services.request_stop(name)
    assert services.fall_silent() == [name]
    assert (services.run(name).state, services.run(name).value) == (RunState.KILLED, 2)


def test_a_late_message_revives_a_crashed_run(services: Services) -> None:
    name = services.begun(services.sweep(grid(3)))
    assert services.fall_silent() == [name]
    services.stream(name, Chunk())
    assert services.run(name).state is RunState.RUNNING


def test_a_heartbeat_that_lists_a_run_keeps_it_alive(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    name = services.issued(agent)
    services.start(sweep, name)
    services.clock.now += SILENCE_S
    services.beat(agent, name)
    assert services.apply_timeouts() == []


def test_the_unstarted_run_of_a_silent_unsupervised_agent_goes_to_another(services: Services) -> None:
    sweep = services.sweep(grid(3))
    sleeper = services.agent(sweep)
    name = services.issued(sleeper)
    assert services.fall_silent() == [name]
    assert services.issued(services.agent(sweep)) == name
    assert services.beat(sleeper, name) == {"type": "stop", "run_id": name}


def test_the_unstarted_run_of_a_silent_worker_does_not_time_out(services: Services) -> None:
    services.issued(services.agent(services.sweep(grid(3)), "w0"))
    assert services.fall_silent() == []


def test_downtime_of_the_server_does_not_count_as_silence_of_a_run(services: Services) -> None:
    name = services.begun(services.sweep(grid(3)))
    services.clock.now += SILENCE_S
    assert apply_timeouts(services.world, up_since=services.clock.now - 10) == []
    assert services.apply_timeouts() == [name]
