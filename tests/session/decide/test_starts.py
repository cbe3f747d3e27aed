"""Runs that start although the count knows them already, that start too late, and workers that start none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from parallel_hpo.core.messages import (
    Active,
    AttemptEnd,
    Drain,
    Interrupt,
    Lease,
    LeaseEnded,
    Proceed,
    Rerun,
    RunStarted,
    SkipRun,
)
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.count.policy import PREEMPTIONS
from parallel_hpo.session.decide.events import (
    AskStart,
    Delivered,
    Died,
    DrainAsked,
    DumpStacks,
    Kill,
    Opened,
    RecordEnd,
    Reported,
    ReportEnd,
    ReturnRuns,
    ScaleAsked,
    Send,
    Spawn,
    StopAsked,
    SweepSeen,
    TimePassed,
)
from parallel_hpo.session.decide.state import SILENT_S, Limits, next_deadline, open_view
from tests.session.decide.plays import CountedPlay

S0, S1 = Slot(0), Slot(1)
RUN = RunId("run")


class Play(CountedPlay):
    """A sweep of ten runs on two workers that hold a lease each."""

    def __init__(self, *, workers: int = 2) -> None:
        super().__init__(open_view(Limits(), workers), count=10)
        self.open()

    def deliver(self, slot: Slot, outcome: Outcome | None, attempts: int = 1) -> None:
        self.event(Delivered(slot, RunStarted(RUN, {}, 1), attempts, outcome))


@pytest.mark.parametrize(("outcome", "exit_code"), [(Outcome.FINISHED, 0), (Outcome.FAILED, 1)])
def test_a_completed_run_is_skipped_and_its_end_is_reported_to_the_server(
    outcome: Outcome, exit_code: int
) -> None:
    play = Play()
    play.start(S0)
    play.end(S0, outcome)
    before = play.view
    play.deliver(S0, outcome)
    assert play.did(Send(S0, SkipRun(RUN, exit_code)))
    assert play.did(ReportEnd(RUN, outcome))
    assert not any(isinstance(action, AskStart) for action in play.actions)
    assert play.view.started == before.started == 1


def test_completed_runs_in_a_lease_do_not_use_up_the_count() -> None:
    play = Play(workers=1)
    lease = play.view.slots[0].lease_left
    play.start(S0)
    play.end(S0, Outcome.FINISHED)
    for _ in range(lease - 1):
        play.deliver(S0, Outcome.FINISHED)
    play.back(S0)
    (again,) = [action.order for action in play.actions if isinstance(action, Send)]
    assert isinstance(again, Lease)
    assert play.view.started == 1


def test_a_run_that_is_active_in_another_slot_is_skipped() -> None:
    play = Play()
    play.start(S0)
    play.deliver(S1, None)
    assert play.actions == (Send(S1, SkipRun(RUN, None)),)


def test_a_waiting_run_gets_its_next_attempt_on_the_worker_it_is_delivered_to() -> None:
    play = Play()
    play.start(S0)
    play.event(Died(S0, "SIGKILL"))
    assert [run.attempt for run in play.view.reruns] == [2]
    play.deliver(S1, None)
    assert play.view.reruns == ()
    assert play.did(Send(S1, Proceed(RUN, 2)))
    run = play.view.slots[S1].run
    assert run is not None and (run.run_id, run.attempt, run.deaths) == (RUN, 2, 1)
    assert play.view.started == 1


def test_a_preempted_run_gets_another_attempt_without_using_a_retry() -> None:
    play = Play()
    play.start(S0)
    play.end(S0, Outcome.FAILED, preempted=True)
    record = play.only(RecordEnd)
    assert (record.final, record.end.outcome) == (False, Outcome.STOPPED)
    play.back(S0)
    assert play.did(Send(S0, Rerun(RUN, {}, 2)))


def test_a_run_that_marks_itself_as_preempting_too_often_fails() -> None:
    play = Play(workers=1)
    play.start(S0)
    run = play.view.slots[0].run
    assert run is not None
    play.alter(run=replace(run, preemptions=PREEMPTIONS))
    play.end(S0, Outcome.FAILED, preempted=True)
    record = play.only(RecordEnd)
    assert record.final and record.end.outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("unreported", "expected"),
    [
        pytest.param({"reported": False}, ReportEnd(RUN, Outcome.FINISHED), id="the worker could not"),
        pytest.param(
            {"unsent": ("folder",)},
            ReportEnd(RUN, Outcome.FINISHED, ("folder",)),
            id="offline data has to be sent first",
        ),
    ],
)
def test_the_session_reports_a_recorded_end_that_its_worker_did_not_report(
    unreported: dict[str, Any], expected: ReportEnd
) -> None:
    play = Play()
    play.start(S0)
    play.end(S0, Outcome.FINISHED, **unreported)
    assert play.did(expected)
    kinds = [type(action) for action in play.actions]
    assert kinds.index(RecordEnd) < kinds.index(ReportEnd)


def test_a_worker_whose_agent_fails_is_replaced_after_a_pause_without_costing_a_restart() -> None:
    play = Play(workers=1)
    lost = Reported(S0, LeaseEnded(short=True, error="its agent could not go on: OSError"))
    play.event(lost)
    assert play.did(Send(S0, Drain()))
    before = play.view
    play.event(lost)
    assert play.view == before, "a second report changes nothing"
    play.event(SweepSeen(""))
    play.event(Died(S0, "exit 0"))
    assert (play.view.slots[0].state, play.view.slots[0].restarts) == (SlotState.STOPPED, ())
    play.now = 1.0
    play.event(TimePassed())
    assert play.did(Spawn(S0))
    play.ready(S0)
    assert [type(order) for order in play.orders(0)] == [Lease]


def test_an_issued_run_that_its_agent_could_not_begin_is_returned_to_the_server() -> None:
    play = Play()
    play.back(S0, short=True)
    assert not play.did(Send(S0, Drain()))  # the sweep may be over, and all leave
    play.event(SweepSeen(""))
    assert play.did(Send(S0, Drain()))
    play.event(Died(S0, "exit 0"))
    assert play.did(ReturnRuns(S0))


def test_a_worker_that_is_silent_outside_main_is_replaced_and_its_stacks_are_logged() -> None:
    play = Play(workers=1)
    play.now = SILENT_S / 2
    play.event(Reported(S0, Active()))
    assert next_deadline(play.view) == SILENT_S * 1.5
    inside = Play(workers=1)
    inside.start(S0)
    assert next_deadline(inside.view) is None, "inside `main` it may be silent for any time"
    play.now = SILENT_S * 1.5
    play.event(TimePassed())
    assert play.did(DumpStacks(S0)) and play.did(Send(S0, Drain()))
    assert play.view.slots[0].state is SlotState.STOPPING


def test_a_drained_worker_that_does_not_exit_is_killed_after_the_grace_time() -> None:
    play = Play(workers=1)
    play.start(S0)
    play.event(StopAsked(StopKind.DRAIN, "SIGUSR1", 75))
    assert next_deadline(play.view) is None
    play.end(S0, Outcome.FINISHED)
    assert next_deadline(play.view) == play.view.limits.grace_s
    play.now = play.view.limits.grace_s
    play.event(TimePassed())
    assert play.did(Kill(S0))


def test_an_end_is_recorded_with_the_attempts_duration_and_the_workers_report() -> None:
    play = Play()
    play.now = 5.0
    play.start(S0)
    play.now = 25.0
    play.end(S0, value=1.0)
    record = play.only(RecordEnd)
    assert record.end == AttemptEnd(outcome=Outcome.FINISHED, value=1.0, duration_s=20.0)


def test_a_worker_drained_before_it_is_ready_is_killed_and_gets_no_work() -> None:
    play = CountedPlay(open_view(Limits(), 1), count=10)
    play.event(Opened())
    play.event(DrainAsked(S0))
    assert play.did(Kill(S0))
    play.ready(S0)
    assert (play.orders(S0), play.view.slots[S0].state) == ([], SlotState.STOPPING)


def test_a_sweep_that_is_ending_gets_no_more_workers() -> None:
    play = Play()
    play.event(StopAsked(StopKind.DRAIN, "SIGUSR1", 75))
    play.event(ScaleAsked(4))
    assert play.actions == () and len(play.view.slots) == 2


def with_deadline(workers: int = 1, took: tuple[float, ...] = ()) -> CountedPlay:
    """A sweep of 50 runs with a deadline at 100 s."""
    play = CountedPlay(open_view(Limits(), workers), 50, deadline="100s", took=took)
    play.open()
    return play


def test_a_leased_run_that_is_too_late_is_returned_unstarted_and_its_worker_drained() -> None:
    play = with_deadline(workers=2, took=(30.0,))
    play.start(S1, "long")
    play.start(S0, "a")
    play.pass_time(75.0)
    play.end(S0)
    assert play.view.slots[S0].lease_left > 0
    play.start(S0, "late")
    assert play.orders(S0) == [Drain()]
    play.event(Died(S0, "exit 0"))
    assert not play.did(Spawn)
    assert [run.run_id for run in play.ledger.runs()] == ["long", "a"]


def test_one_message_announces_that_no_more_runs_start_and_active_runs_may_finish() -> None:
    play = with_deadline(workers=2, took=(50.0,))
    for slot, run in enumerate("ab"):
        play.start(slot, run)
    assert play.count.due_at is not None
    play.pass_time(play.count.due_at)
    (words,) = play.words()
    assert "no run starts that would not end in time (50 s are left" in words
    play.pass_time(60.0)
    play.end(S0)
    play.back(S0)
    assert (play.words(), play.orders(0), play.view.ending) == ([], [], None)
    play.end(S1)
    assert play.view.ending is not None


def test_active_runs_are_interrupted_at_the_deadline_and_killed_after_the_grace_time() -> None:
    play = with_deadline()
    play.start(S0)
    assert (play.count.due_at, next_deadline(play.view)) == (100.0, None)
    play.pass_time(100.0)
    assert play.did(Send(S0, Interrupt()))
    assert play.words() == ["deadline 100s: 1 running run interrupted, killed after 30 s"]
    assert (play.count.due_at, next_deadline(play.view)) == (None, 130.0)
    idle = with_deadline()
    idle.pass_time(100.0)
    assert idle.words() == ["deadline 100s: no new runs"], "where no run is active"
    assert not idle.did(AskStart)
