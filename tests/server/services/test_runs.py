from __future__ import annotations

import pytest

from parallel_hpo.core.keys import SUPERVISOR
from parallel_hpo.server import removal
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import supervision
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.store import runs
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError
from tests.server.acting import Services, grid


def test_a_run_is_made_with_its_project(services: Services) -> None:
    made = run_service.upsert(
        services.world, RunUpsert(project="p", tags=("a",), config='{"k": {"value": 1}}')
    )
    assert made.inserted
    assert (made.bucket.entity, made.bucket.project) == ("local", "p")
    assert made.bucket.tags == '["a"]'


def test_what_a_client_leaves_out_is_left_as_it_is(services: Services) -> None:
    run_service.upsert(services.world, RunUpsert(name="r", project="p", notes="kept"))
    run_service.upsert(services.world, RunUpsert(name="r", project="p", description="new"))
    assert (services.run("r").notes, services.run("r").description) == ("kept", "new")


def test_a_sweeps_run_is_found_whatever_entity_the_users_code_names(services: Services) -> None:
    sweep = services.sweep(grid(3))
    name = services.issued(services.agent(sweep))
    started = run_service.upsert(
        services.world, RunUpsert(name=name, sweep=sweep, entity="team", project="other")
    )
    assert (started.bucket.entity, started.bucket.project) == ("local", "p")
    assert services.run(name).state is RunState.RUNNING


def test_editing_a_finished_run_does_not_start_it_again(services: Services) -> None:
    run_service.upsert(services.world, RunUpsert(name="r", project="p"))
    services.stream("r", Chunk(exitcode=0))
    run_service.upsert(services.world, RunUpsert(id=services.run("r").id, notes="seen"))
    assert services.run("r").state is RunState.FINISHED


def test_a_run_began_when_its_client_first_spoke_of_this_attempt(services: Services) -> None:
    began = services.clock()
    run_service.upsert(services.world, RunUpsert(name="r", project="p"))
    services.clock.now += 30
    run_service.upsert(services.world, RunUpsert(name="r", project="p", config='{"k": {"value": 1}}'))
    assert services.run("r").started_at == began
    services.stream("r", Chunk(exitcode=1))
    services.clock.now += 30
    run_service.upsert(services.world, RunUpsert(name="r", project="p"))
    assert services.run("r").started_at == began + 60


def test_a_run_that_another_worker_opens_begins_again(services: Services) -> None:
    began = services.clock()
    for opener in ("first", "second", "second", SUPERVISOR):
        run_service.upsert(services.world, RunUpsert(name="r", project="p"), opener=opener)
        services.clock.now += 30
    assert services.run("r").started_at == began + 30


def test_what_a_supervisor_sends_later_of_an_attempt_is_no_new_beginning(services: Services) -> None:
    began = services.clock()
    run_service.upsert(services.world, RunUpsert(name="r", project="p"), opener="worker")
    services.stream("r", Chunk(exitcode=1))
    services.clock.now += 30
    run_service.upsert(services.world, RunUpsert(name="r", project="p"), opener=SUPERVISOR)
    assert (services.run("r").started_at, services.run("r").state) == (began, RunState.RUNNING)


def test_a_run_is_deleted_once_and_nothing_comes_of_asking_again(services: Services) -> None:
    run = run_service.upsert(services.world, RunUpsert(name="r", project="p")).bucket
    for _ in range(2):
        removal.delete_run(services.world, run.id, with_artifacts=True)
    with services.world.database.read() as transaction:
        assert runs.find(transaction, run.id) is None


def test_an_owner_queues_a_run_again_and_gives_one_up(services: Services) -> None:
    run = run_service.upsert(services.world, RunUpsert(name="r", project="p")).bucket
    services.stream("r", Chunk(exitcode=1))
    run_service.set_state(services.world, run.id, "pending")
    assert (services.run("r").state, services.run("r").exitcode) == (RunState.PENDING, None)
    run_service.set_state(services.world, run.id, "failed")
    assert services.run("r").state is RunState.FAILED
    with pytest.raises(RefusedError, match="invalid state transition: a run that is failed can't be"):
        run_service.set_state(services.world, run.id, "failed")


def test_an_owner_does_not_say_what_else_became_of_a_run(services: Services) -> None:
    run = run_service.upsert(services.world, RunUpsert(name="r", project="p")).bucket
    with pytest.raises(RefusedError, match="state 'finished': one of pending, failed"):
        run_service.set_state(services.world, run.id, "finished")
    sweep = services.sweep(grid(1))
    name = services.issued(services.agent(sweep))
    with pytest.raises(RefusedError, match=f"run {name} belongs to sweep {sweep}"):
        run_service.set_state(services.world, services.run(name).id, "failed")


def test_a_client_that_resumes_a_run_names_it_by_its_key_and_its_name(services: Services) -> None:
    run_service.upsert(services.world, RunUpsert(name="r", project="p"))
    services.stream("r", Chunk(exitcode=1))
    run_service.request_stop(services.world, services.run("r").id)
    run_service.upsert(services.world, RunUpsert(id=services.run("r").id, name="r", project="p"))
    run = services.run("r")
    assert (run.state, run.exitcode, run.stop_requested) == (RunState.RUNNING, None, False)


def test_a_value_that_is_edited_later_reaches_the_engine(services: Services) -> None:
    sweep = services.sweep(grid(3))
    name = services.issued(services.agent(sweep))
    services.finish(sweep, name, loss=1)
    before = services.run(name).sweep_revision
    run_service.upsert(services.world, RunUpsert(id=services.run(name).id, summary='{"loss": 0.5}'))
    assert services.run(name).value == 0.5
    assert services.run(name).sweep_revision > before


def test_an_alert_is_shown_where_the_server_logs_on_one_line(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    run_service.upsert(services.world, RunUpsert(name="r", project="p"))
    run_service.alert(services.world, RunPath("local", "p", "r"), "low", "below\n0.5", "WARN")
    assert caplog.messages == ["alert (WARN) of run local/p/r: 'low': 'below\\n0.5'"]


def test_an_unknown_sweep_or_run_is_refused(services: Services) -> None:
    with pytest.raises(RefusedError, match="sweep none doesn't exist"):
        run_service.upsert(services.world, RunUpsert(name="r", sweep="none"))
    with pytest.raises(RefusedError, match="run 77 doesn't exist"):
        run_service.upsert(services.world, RunUpsert(id=77))


@pytest.mark.parametrize("state", ["crashed", "killed", "failed", "finished"])
def test_a_supervisor_ends_a_run_that_can_no_longer_speak(services: Services, state: str) -> None:
    sweep = services.sweep(grid(3))
    name = services.begun(sweep, "w0")
    for _ in range(2):
        assert supervision.end_run(services.world, services.at(sweep), name, state) == state
    assert services.progress(sweep).runs[state] == 1


def test_a_supervisor_is_told_which_runs_have_not_said_their_end_themselves(services: Services) -> None:
    sweep = services.sweep(grid(3))
    services.perform(sweep, services.agent(sweep))
    open_run = services.issued(services.agent(sweep, "w0"))
    assert supervision.unconfirmed_runs(services.world, services.at(sweep)) == {open_run: "pending"}
