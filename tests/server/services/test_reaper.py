from __future__ import annotations

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.file_stream import Chunk
from tests.server.acting import SessionSetup, grid

SILENCE_S = 301


def test_a_stopped_run_that_fell_silent_was_killed(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    name = stage.issued(stage.agent(sweep))
    stage.start(sweep, name)
    stage.stream(name, Chunk(summary='{"loss": 2}'))
    run_service.request_stop(stage.world, stage.run(name).id)
    stage.clock.now += SILENCE_S
    assert stage.apply_timeouts() == [name]
    assert (stage.run(name).state, stage.run(name).value) == (RunState.KILLED, 2)


def test_a_late_message_revives_a_crashed_run(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    name = stage.issued(stage.agent(sweep))
    stage.start(sweep, name)
    stage.clock.now += SILENCE_S
    stage.apply_timeouts()
    stage.stream(name, Chunk())
    assert stage.run(name).state is RunState.RUNNING


def test_a_heartbeat_that_lists_a_run_keeps_it_alive(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    agent = stage.agent(sweep)
    name = stage.issued(agent)
    stage.start(sweep, name)
    stage.clock.now += SILENCE_S
    stage.beat(agent, name)
    assert stage.apply_timeouts() == []


def test_a_silent_strangers_unstarted_run_goes_to_another_agent(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    name = stage.issued(stage.agent(sweep))
    stage.clock.now += SILENCE_S
    assert stage.apply_timeouts() == [name]
    assert stage.issued(stage.agent(sweep)) == name


def test_a_stranger_that_comes_back_too_late_is_told_to_stop_the_run_that_another_has(
    stage: SessionSetup,
) -> None:
    sweep = stage.sweep(grid(3))
    sleeper = stage.agent(sweep)
    name = stage.issued(sleeper)
    stage.clock.now += SILENCE_S
    stage.apply_timeouts()
    stage.issued(stage.agent(sweep))
    assert stage.beat(sleeper, name) == {"type": "stop", "run_id": name}


def test_a_workers_unstarted_run_waits_for_its_supervisors_word(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    stage.issued(stage.agent(sweep, "w0"))
    stage.clock.now += SILENCE_S
    assert stage.apply_timeouts() == []


def test_a_server_that_was_down_does_not_take_its_own_absence_for_silence(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    name = stage.issued(stage.agent(sweep))
    stage.start(sweep, name)
    stage.clock.now += SILENCE_S - 10
    assert stage.apply_timeouts() == []
