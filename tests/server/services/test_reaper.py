from __future__ import annotations

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.services.run_transitions import apply_timeouts
from tests.server.acting import Services, grid

SILENCE_S = 301


def test_a_stopped_run_that_fell_silent_was_killed(services: Services) -> None:
    name = services.begun(services.sweep(grid(3)))
    services.stream(name, Chunk(summary='{"loss": 2}'))
    run_service.request_stop(services.world, services.run(name).id)
    services.clock.now += SILENCE_S
    assert services.apply_timeouts() == [name]
    assert (services.run(name).state, services.run(name).value) == (RunState.KILLED, 2)


def test_a_late_message_revives_a_crashed_run(services: Services) -> None:
    name = services.begun(services.sweep(grid(3)))
    services.clock.now += SILENCE_S
    services.apply_timeouts()
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


def test_a_silent_strangers_unstarted_run_goes_to_another_agent(services: Services) -> None:
    sweep = services.sweep(grid(3))
    name = services.issued(services.agent(sweep))
    services.clock.now += SILENCE_S
    assert services.apply_timeouts() == [name]
    assert services.issued(services.agent(sweep)) == name


def test_a_stranger_that_comes_back_too_late_is_told_to_stop_the_run_that_another_has(
    services: Services,
) -> None:
    sweep = services.sweep(grid(3))
    sleeper = services.agent(sweep)
    name = services.issued(sleeper)
    services.clock.now += SILENCE_S
    services.apply_timeouts()
    services.issued(services.agent(sweep))
    assert services.beat(sleeper, name) == {"type": "stop", "run_id": name}


def test_a_workers_unstarted_run_waits_for_its_supervisors_word(services: Services) -> None:
    sweep = services.sweep(grid(3))
    services.issued(services.agent(sweep, "w0"))
    services.clock.now += SILENCE_S
    assert services.apply_timeouts() == []


def test_a_server_that_was_down_does_not_take_its_own_absence_for_silence(services: Services) -> None:
    name = services.begun(services.sweep(grid(3)))
    services.clock.now += SILENCE_S
    assert apply_timeouts(services.world, up_since=services.clock.now - 10) == []
    assert services.apply_timeouts() == [name]
