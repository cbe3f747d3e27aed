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
from tests.server.acting import SessionSetup, grid


def test_a_run_is_made_with_its_project(stage: SessionSetup) -> None:
    made = run_service.upsert(stage.world, RunUpsert(project="p", tags=("a",), config='{"k": {"value": 1}}'))
    assert made.inserted
    assert (made.bucket.entity, made.bucket.project) == ("local", "p")
    assert made.bucket.tags == '["a"]'


def test_what_a_client_leaves_out_is_left_as_it_is(stage: SessionSetup) -> None:
    run_service.upsert(stage.world, RunUpsert(name="r", project="p", notes="kept"))
    run_service.upsert(stage.world, RunUpsert(name="r", project="p", description="new"))
    assert (stage.run("r").notes, stage.run("r").description) == ("kept", "new")


def test_a_sweeps_run_is_found_whatever_entity_the_users_code_names(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    name = stage.issued(stage.agent(sweep))
    started = run_service.upsert(
        stage.world, RunUpsert(name=name, sweep=sweep, entity="team", project="other")
    )
    assert (started.bucket.entity, started.bucket.project) == ("local", "p")
    assert stage.run(name).state is RunState.RUNNING


def test_editing_a_finished_run_does_not_start_it_again(stage: SessionSetup) -> None:
    run_service.upsert(stage.world, RunUpsert(name="r", project="p"))
    stage.stream("r", Chunk(exitcode=0))
    run_service.upsert(stage.world, RunUpsert(id=stage.run("r").id, notes="seen"))
    assert stage.run("r").state is RunState.FINISHED


def test_a_run_began_when_its_client_first_spoke_of_this_attempt(stage: SessionSetup) -> None:
    began = stage.clock()
    run_service.upsert(stage.world, RunUpsert(name="r", project="p"))
    stage.clock.now += 30
    run_service.upsert(stage.world, RunUpsert(name="r", project="p", config='{"k": {"value": 1}}'))
    assert stage.run("r").started_at == began
    stage.stream("r", Chunk(exitcode=1))
    stage.clock.now += 30
    run_service.upsert(stage.world, RunUpsert(name="r", project="p"))
    assert stage.run("r").started_at == began + 60


def test_a_run_that_another_worker_opens_begins_again(stage: SessionSetup) -> None:
    began = stage.clock()
    for opener in ("first", "second", "second", SUPERVISOR):
        run_service.upsert(stage.world, RunUpsert(name="r", project="p"), opener=opener)
        stage.clock.now += 30
    assert stage.run("r").started_at == began + 30


def test_what_a_supervisor_sends_later_of_an_attempt_is_no_new_beginning(stage: SessionSetup) -> None:
    began = stage.clock()
    run_service.upsert(stage.world, RunUpsert(name="r", project="p"), opener="worker")
    stage.stream("r", Chunk(exitcode=1))
    stage.clock.now += 30
    run_service.upsert(stage.world, RunUpsert(name="r", project="p"), opener=SUPERVISOR)
    assert (stage.run("r").started_at, stage.run("r").state) == (began, RunState.RUNNING)


def test_a_run_is_deleted_once_and_nothing_comes_of_asking_again(stage: SessionSetup) -> None:
    run = run_service.upsert(stage.world, RunUpsert(name="r", project="p")).bucket
    for _ in range(2):
        removal.delete_run(stage.world, run.id, with_artifacts=True)
    with stage.world.database.read() as transaction:
        assert runs.find(transaction, run.id) is None


def test_an_owner_queues_a_run_again_and_gives_one_up(stage: SessionSetup) -> None:
    run = run_service.upsert(stage.world, RunUpsert(name="r", project="p")).bucket
    stage.stream("r", Chunk(exitcode=1))
    run_service.set_state(stage.world, run.id, "pending")
    assert (stage.run("r").state, stage.run("r").exitcode) == (RunState.PENDING, None)
    run_service.set_state(stage.world, run.id, "failed")
    assert stage.run("r").state is RunState.FAILED
    with pytest.raises(RefusedError, match="invalid state transition: a run that is failed can't be"):
        run_service.set_state(stage.world, run.id, "failed")


def test_an_owner_does_not_say_what_else_became_of_a_run(stage: SessionSetup) -> None:
    run = run_service.upsert(stage.world, RunUpsert(name="r", project="p")).bucket
    with pytest.raises(RefusedError, match="state 'finished': one of pending, failed"):
        run_service.set_state(stage.world, run.id, "finished")
    sweep = stage.sweep(grid(1))
    name = stage.issued(stage.agent(sweep))
    with pytest.raises(RefusedError, match=f"run {name} belongs to sweep {sweep}"):
        run_service.set_state(stage.world, stage.run(name).id, "failed")


def test_a_client_that_resumes_a_run_names_it_by_its_key_and_its_name(stage: SessionSetup) -> None:
    run_service.upsert(stage.world, RunUpsert(name="r", project="p"))
    stage.stream("r", Chunk(exitcode=1))
    run_service.request_stop(stage.world, stage.run("r").id)
    run_service.upsert(stage.world, RunUpsert(id=stage.run("r").id, name="r", project="p"))
    run = stage.run("r")
    assert (run.state, run.exitcode, run.stop_requested) == (RunState.RUNNING, None, False)


def test_a_value_that_is_edited_later_reaches_the_engine(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    name = stage.issued(stage.agent(sweep))
    stage.finish(sweep, name, loss=1)
    before = stage.run(name).sweep_revision
    run_service.upsert(stage.world, RunUpsert(id=stage.run(name).id, summary='{"loss": 0.5}'))
    assert stage.run(name).value == 0.5
    assert stage.run(name).sweep_revision > before


def test_an_alert_is_shown_where_the_server_logs_on_one_line(
    stage: SessionSetup, caplog: pytest.LogCaptureFixture
) -> None:
    run_service.upsert(stage.world, RunUpsert(name="r", project="p"))
    run_service.alert(stage.world, RunPath("local", "p", "r"), "low", "below\n0.5", "WARN")
    assert caplog.messages == ["alert (WARN) of run local/p/r: 'low': 'below\\n0.5'"]


def test_an_unknown_sweep_or_run_is_refused(stage: SessionSetup) -> None:
    with pytest.raises(RefusedError, match="sweep none doesn't exist"):
        run_service.upsert(stage.world, RunUpsert(name="r", sweep="none"))
    with pytest.raises(RefusedError, match="run 77 doesn't exist"):
        run_service.upsert(stage.world, RunUpsert(id=77))


@pytest.mark.parametrize("state", ["crashed", "killed", "failed", "finished"])
def test_a_supervisor_ends_a_run_that_can_no_longer_speak(stage: SessionSetup, state: str) -> None:
    sweep = stage.sweep(grid(3))
    name = stage.issued(stage.agent(sweep, "w0"))
    stage.start(sweep, name)
    for _ in range(2):
        assert supervision.end_run(stage.world, stage.at(sweep), name, state) == state
    assert stage.progress(sweep).runs[state] == 1


def test_a_supervisor_is_told_which_runs_have_not_said_their_end_themselves(stage: SessionSetup) -> None:
    sweep = stage.sweep(grid(3))
    stage.perform(sweep, stage.agent(sweep))
    open_run = stage.issued(stage.agent(sweep, "w0"))
    assert supervision.unconfirmed_runs(stage.world, stage.at(sweep)) == {open_run: "pending"}
