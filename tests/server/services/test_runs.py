"""Runs that clients start, change, resume and delete, and sweeps that they create and change."""

from __future__ import annotations

import pytest

from parallel_hpo.core.keys import SUPERVISOR
from parallel_hpo.server import engines
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import supervision
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError
from tests.server.server_logic import Services, grid

RANDOM = "method: random\nparameters:\n  x: {min: 0.0, max: 1.0}\n"
GRID = "method: grid\nparameters:\n  x: {values: [1, 2, 3]}\n"


def test_fields_that_an_update_omits_are_kept(services: Services) -> None:
    services.upsert("r", notes="kept")
    run = services.upsert("r", description="new")
    assert (run.notes, run.description) == ("kept", "new")


def test_a_sweeps_run_is_found_whatever_entity_and_project_are_given(services: Services) -> None:
    sweep = services.sweep(grid(3))
    name = services.issued(services.agent(sweep))
    started = services.upsert(name, sweep=sweep, entity="team", project="other")
    assert (started.entity, started.project) == ("local", "p")
    assert services.run(name).state is RunState.RUNNING


def test_editing_a_finished_run_does_not_start_it_again(services: Services) -> None:
    services.upsert("r")
    services.end("r")
    assert services.edit("r", notes="seen").state is RunState.FINISHED


def test_a_run_starts_with_the_first_message_of_its_attempt(services: Services) -> None:
    began = services.clock()
    services.upsert("r")
    services.clock.now += 30
    assert services.upsert("r", config='{"k": {"value": 1}}').started_at == began
    services.end("r", exitcode=1)
    services.clock.now += 30
    assert services.upsert("r").started_at == began + 60


def test_another_worker_restarts_a_run_and_a_later_upload_does_not(services: Services) -> None:
    began = services.clock()
    for opener in ("first", "second", "second", SUPERVISOR):
        services.upsert("r", opener)
        services.clock.now += 30
    services.end("r", exitcode=1)
    services.upsert("r", SUPERVISOR)
    assert (services.run("r").started_at, services.run("r").state) == (began + 30, RunState.RUNNING)


def test_a_user_can_not_set_other_states_or_those_of_a_sweeps_run(services: Services) -> None:
    run = services.upsert("r")
    with pytest.raises(RefusedError, match="state 'finished': one of pending, failed"):
        run_service.set_state(services.world, run.id, "finished")
    sweep = services.sweep(grid(1))
    name = services.issued(services.agent(sweep))
    with pytest.raises(RefusedError, match=f"run {name} belongs to sweep {sweep}"):
        run_service.set_state(services.world, services.run(name).id, "failed")


def test_a_client_resumes_a_run_by_its_id_and_name(services: Services) -> None:
    services.upsert("r")
    services.end("r", exitcode=1)
    services.request_stop("r")
    run = services.upsert("r", id=services.run("r").id)
    assert (run.state, run.exitcode, run.stop_requested) == (RunState.RUNNING, None, False)


def test_a_later_edit_of_a_runs_value_reaches_the_engine(services: Services) -> None:
    sweep = services.sweep(grid(3))
    name = services.perform(sweep, services.agent(sweep))
    before = services.run(name).sweep_revision
    edited = services.edit(name, summary='{"loss": 0.5}')
    assert (edited.value, edited.sweep_revision > before) == (0.5, True)


def test_an_alert_is_logged_as_one_line(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    services.upsert("r")
    run_service.alert(services.world, RunPath("local", "p", "r"), "low", "below\n0.5", "WARN")
    assert caplog.messages == ["alert (WARN) of run local/p/r: 'low': 'below\\n0.5'"]


@pytest.mark.parametrize("name", ["config", "summary"])
def test_an_invalid_config_or_summary_is_refused_and_changes_nothing(services: Services, name: str) -> None:
    before = services.upsert("r")
    with pytest.raises(RefusedError, match=f"the run's {name}"):
        services.upsert("r", **{name: "[1]"})
    assert services.run("r") == before


def test_an_unknown_sweep_or_run_is_refused(services: Services) -> None:
    with pytest.raises(RefusedError, match="sweep none doesn't exist"):
        services.upsert("r", sweep="none")
    with pytest.raises(RefusedError, match="run 77 doesn't exist"):
        services.upsert("r", id=77)


@pytest.mark.parametrize("state", ["crashed", "killed", "failed", "finished"])
def test_a_supervisor_can_end_a_run_in_any_final_state(services: Services, state: str) -> None:
    sweep = services.sweep(grid(3))
    name = services.begun(sweep, "w0")
    for _ in range(2):
        assert supervision.end_run(services.world, services.at(sweep), name, state) == state
    assert services.progress(sweep).runs[state] == 1


def test_a_supervisor_gets_the_runs_whose_end_is_unconfirmed(services: Services) -> None:
    sweep = services.sweep(grid(3))
    services.perform(sweep, services.agent(sweep))
    open_run = services.issued(services.agent(sweep, "w0"))
    assert supervision.unconfirmed_runs(services.world, services.at(sweep)) == {open_run: "pending"}


def test_a_supervisor_gets_the_step_and_metric_of_active_runs(services: Services) -> None:
    sweep = services.sweep(grid(4))
    services.perform(sweep, services.agent(sweep))
    first, _second = (services.issued(services.agent(sweep, f"mark_{slot}_1")) for slot in (0, 1))
    services.start(sweep, first, opener="mark_0_1")
    assert supervision.steps(services.world, services.at(sweep)) == {}
    services.stream(first, Chunk(summary='{"_step": 7, "loss": 0.5}'))
    told = supervision.steps(services.world, services.at(sweep))
    assert told == {first: {"label": "mark_0_1", "step": 7, "metric": "loss", "value": 0.5}}


@pytest.mark.parametrize(
    "config", [RANDOM, '{"method": "random", "parameters": {"lr": {"min": 1e-05, "max": 1e-2}}}']
)
def test_a_sweep_without_names_uses_defaults_and_keeps_its_config(services: Services, config: str) -> None:
    sweep = sweep_service.upsert(services.world, SweepUpsert(config=config))
    assert (sweep.entity, sweep.project, sweep.state) == ("local", "uncategorized", "PENDING")
    assert sweep.config == config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "needs a configuration"),
        ("method: [", "not valid YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("method: rendom\nparameters: {x: {value: 1}}\n", "random"),
        ("method: bayes\nparameters: {x: {min: 0, max: 1}}\n", "metric"),
        ("a: &a [1]\nb: *a\n", "aliases are not allowed"),
        ("[" * 5000, "not valid YAML"),
        ("x" * 2_000_001, "longer than"),
        (RANDOM + "parallel_hpo_seed: -1\n", "parallel_hpo_seed"),
    ],
)
def test_an_invalid_configuration_is_refused_with_a_reason(
    services: Services, config: str | None, message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        sweep_service.upsert(services.world, SweepUpsert(config=config))


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("SLEEPING", "one of RUNNING, PENDING, PAUSED, FINISHED, CANCELED"),
        ("PAUSED", "FINISHED can't take pause"),
    ],
)
def test_an_invalid_sweep_state_or_transition_is_refused(services: Services, state: str, why: str) -> None:
    sweep = services.sweep(grid(2))
    services.set_state(sweep, "FINISHED")
    with pytest.raises(RefusedError, match=why):
        services.set_state(sweep, state)


def test_a_changed_search_space_is_used_from_then_on(services: Services) -> None:
    sweep = services.sweep(grid(1))
    agent = services.agent(sweep)
    services.perform(sweep, agent)
    services.change_sweep(sweep, grid(2))
    assert services.points(agent, sweep) == [1]


@pytest.mark.parametrize(
    ("config", "count"), [(RANDOM, None), (RANDOM + "run_cap: 4\n", 4), (GRID, 3), (GRID + "run_cap: 2\n", 2)]
)
def test_the_expected_run_count_follows_from_the_grid_and_the_run_cap(config: str, count: int | None) -> None:
    assert engines.expected_runs(config) == count
