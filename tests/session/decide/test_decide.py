"""Whole sweeps on one machine, in memory: when they end, with what exit code, and what a stop leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import RunEnded, RunStarted, StartFailed, SweepEnd
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.count.policy import RestartLimits
from parallel_hpo.session.decide.events import Reported, StopAsked
from tests.session.one_machine import FragileLedger, Launch, Session, World

S0, S1 = Slot(0), Slot(1)
INTERRUPT = StopAsked(StopKind.INTERRUPT, "SIGINT", 130)
DRAIN = StopAsked(StopKind.DRAIN, "SIGUSR1", ExitCode.RESUMABLE)
Begin = Callable[..., Session]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begin a sweep of `count` runs; `grid` is the number of runs that its server has."""
    with ExitStack() as stack:

        def begin(count: int | None, *, grid: int | None = None, **limits: Any) -> Session:
            world = World(tmp_path / "ledger.db", grid=grid)
            session = Session(world, FragileLedger(world.path), Launch(count, **limits))
            stack.enter_context(closing(session))
            session.open()
            return session

        yield begin


def ending_of(session: Session) -> SweepEnd:
    assert session.view.ending is not None
    return session.view.ending


def outcomes_of(session: Session) -> list[Outcome]:
    return [end.outcome for end in session.ended.values()]


def go_on(session: Session, *slots: Slot) -> Session:
    """Let each of these workers get ready, and have its first run enter `main`."""
    for slot in slots:
        session.turn(slot)
        session.turn(slot)
        session.exchange()
        assert session.is_inside(slot)
    return session


def test_a_sweep_without_faults_performs_exactly_its_count(begin: Begin) -> None:
    session = begin(10, workers=3)
    session.finish()
    assert outcomes_of(session) == [Outcome.FINISHED] * 10
    assert ending_of(session).exit_code == ExitCode.COMPLETE


def test_no_more_workers_are_started_than_there_are_runs(begin: Begin) -> None:
    assert len(begin(2, workers=8).workers) == 2


def test_a_grid_without_a_count_ends_when_it_is_used_up(begin: Begin) -> None:
    session = begin(None, workers=3, grid=12)
    session.finish()
    assert outcomes_of(session) == [Outcome.FINISHED] * 12
    assert ending_of(session).reason == "the grid is used up"


def test_a_sweep_whose_workers_all_gave_up_ends_with_the_failure_exit_code(begin: Begin) -> None:
    session = begin(50, retries=100, restart=RestartLimits(max_restarts=2))
    while not session.is_over:
        for slot in list(session.workers):
            session.turn(slot)
            session.turn(slot)
            session.exchange()
            session.die(slot, "SIGKILL")
        session.pass_time(1.0)
    assert ending_of(session).exit_code == ExitCode.FAILURE_POLICY
    assert {slot.state for slot in session.view.slots} == {SlotState.FATAL}


def test_a_slot_that_gives_up_leaves_its_share_to_the_others(begin: Begin) -> None:
    session = go_on(begin(6, restart=RestartLimits(max_restarts=0)), S0)
    session.die(S0, "SIGKILL")
    session.finish()
    assert outcomes_of(session) == [Outcome.FINISHED] * 6


def test_two_workers_that_die_before_ready_of_the_same_cause_end_the_sweep(begin: Begin) -> None:
    session = begin(5)
    for slot in (S0, S1):
        session.handle(Reported(slot, StartFailed("ModuleNotFoundError: x", "Traceback …")))
        session.die(slot, "exit 1")
    assert ending_of(session).exit_code == ExitCode.FAILURE_POLICY
    assert "ModuleNotFoundError" in ending_of(session).reason


def test_deaths_before_ready_do_not_end_the_sweep_once_another_worker_was_ready(begin: Begin) -> None:
    session = begin(5)
    session.turn(S0)
    for _ in range(4):
        session.die(S1, "SIGKILL")
        session.pass_time(60.0)
    assert session.view.ending is None


@pytest.mark.parametrize(("stop", "outcome"), [(INTERRUPT, Outcome.STOPPED), (DRAIN, Outcome.FINISHED)])
def test_an_interrupt_stops_the_running_runs_and_a_drain_lets_them_finish(
    begin: Begin, stop: StopAsked, outcome: Outcome
) -> None:
    session = go_on(begin(10), S0, S1)
    session.handle(stop)
    session.finish()
    assert [row.outcome for row in session.ledger.runs()] == [outcome] * 2
    assert ending_of(session).exit_code == stop.exit_code


def test_after_an_interrupt_a_drain_changes_nothing_and_a_second_interrupt_kills(begin: Begin) -> None:
    session = go_on(begin(10), S0)
    session.handle(INTERRUPT)
    before = session.view
    session.handle(DRAIN)
    assert session.view == before
    session.handle(INTERRUPT)
    assert all(worker.killed for worker in session.workers.values())


def test_a_run_that_starts_after_a_stop_is_not_recorded(begin: Begin) -> None:
    session = begin(10, workers=1)
    session.turn(S0)
    session.handle(INTERRUPT)
    session.handle(Reported(S0, RunStarted(RunId("late"), {}, 1)))
    assert list(session.ledger.runs()) == []


def test_a_late_report_about_an_ended_run_changes_nothing(begin: Begin) -> None:
    session = begin(10, workers=1)
    session.turn(S0)
    before = session.view
    session.handle(Reported(S0, RunEnded(RunId("old"), 1, outcome=Outcome.FINISHED)))
    assert session.view == before
