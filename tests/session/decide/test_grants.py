"""A session and its count's answers: what it holds, asks for, gives back, and when it leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import Drain, Interrupt, Lease, Proceed, Rerun, SkipRun, SweepEnd
from parallel_hpo.core.pool_messages import Granted, PooledRun
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.session.decide.decide import decide
from parallel_hpo.session.decide.demand import PoolNeeds, needs
from parallel_hpo.session.decide.events import (
    AskStart,
    AskSweep,
    Died,
    DrainAsked,
    Event,
    Kill,
    Opened,
    PoolAnswered,
    RecordDrop,
    RecordEnd,
    ReportEnd,
    ReturnRuns,
    ScaleAsked,
    Send,
    Spawn,
    StartGranted,
    StartRefused,
    StopAsked,
    SweepSeen,
    TimePassed,
    WithdrawStart,
)
from parallel_hpo.session.decide.state import Limits, OpenRun, is_finished, next_deadline, open_view
from tests.session.decide.plays import CountedPlay

S0, S1 = Slot(0), Slot(1)
RUN = PooledRun(RunId("handed"), {"x": 1}, attempt=3, spent_s=5.0, deaths=1, seed=8)
COMPLETE = SweepEnd("all 9 runs performed", ExitCode.COMPLETE)
HELD = "deadline 1h: no run starts that would not end in time"
STOP = SweepEnd("SIGINT", ExitCode.SIGNAL_BASE + 2, StopKind.INTERRUPT)


class Play(CountedPlay):
    """A machine of two workers, one of many: the answers of its pool are events."""

    def __init__(self, workers: int = 2) -> None:
        super().__init__(open_view(Limits(), workers, has_others=True), None)
        self.event(Opened())

    def event(self, event: Event) -> None:
        decision = decide(self.view, event, self.now)
        self.view, self.actions = decision.view, decision.actions

    def grant(self, granted: int, *, each: int = 1, again: tuple[PooledRun, ...] = (), **more: Any) -> None:
        self.event(PoolAnswered(Granted(granted=granted, each=each, again=again, **more)))

    def start(self, slot: int, run_id: str = "run", attempt: int = 1) -> None:
        """Start a run that the pool grants at once."""
        self.ask(slot, run_id, attempt)
        self.event(StartGranted(Slot(slot), RunId(run_id)))

    def ask(self, slot: int, run_id: str, attempt: int = 1) -> None:
        super().start(slot, run_id, attempt)

    def refuse(self, slot: Slot, run_id: str, why: str) -> None:
        self.ask(slot, run_id)
        assert isinstance(self.actions[0], AskStart)
        self.event(StartRefused(slot, RunId(run_id), why))


def leased(play: Play, granted: int = 4, each: int = 2) -> Play:
    """Return the play in which both workers hold a lease of the granted runs."""
    play.grant(granted, each=each)
    play.ready(*[slot.slot for slot in play.view.slots if slot.state is SlotState.STARTING])
    return play


def dropped(play: Play) -> tuple[RunId, int, Outcome, bool]:
    """Return the run that gets no further attempt here, its next attempt, and how it ends."""
    drop = play.only(RecordDrop)
    return drop.run.run_id, drop.run.attempt, drop.end.outcome, drop.end.resumable


def waiting(play: Play) -> list[RunId]:
    return [run.run_id for run in play.view.reruns]


def test_no_worker_starts_before_a_run_is_granted() -> None:
    play = Play()
    assert play.actions == ()
    assert needs(play.view).wants == 2
    play.grant(1)
    assert Spawn(S0) in play.actions
    assert Spawn(S1) not in play.actions


def test_leases_are_limited_by_the_size_per_worker_and_by_the_grant() -> None:
    play = Play()
    play.grant(5, each=3)
    play.ready(S0)
    assert play.orders(S0) == [Lease(3)]
    play.ready(S1)
    assert play.orders(S1) == [Lease(2)]


def test_the_demand_is_the_leased_runs_plus_those_that_idle_workers_could_take() -> None:
    play = Play()
    play.event(ScaleAsked(4))
    assert needs(play.view).wants == 4
    for slot in (S0, S1):
        play.event(DrainAsked(slot))
    assert needs(play.view).wants == 2
    play = leased(Play(), granted=2, each=2)
    assert play.view.slots[S0].lease_left == 2
    assert needs(play.view).wants == 2 + 2
    play.start(S0, "a")
    assert needs(play.view).wants == 1 + 2
    again = leased(Play(workers=1), granted=1)
    again.start(S0, "a")
    again.event(Died(S0, "SIGKILL"))
    assert (waiting(again), needs(again.view).wants) == (["a"], 0), "the pool has counted it"


def test_each_idle_worker_requests_one_requeued_run_rather_than_a_whole_lease() -> None:
    play = Play()
    play.grant(0, each=5)
    assert needs(play.view) == PoolNeeds(wants=10, wants_again=2, workers=2)
    play.grant(0, each=5, again=(RUN,))
    play.ready(S0)
    assert needs(play.view) == PoolNeeds(wants=1 + 5, wants_again=1 + 1, workers=2)
    play.start(S0, RUN.run_id, 3)
    assert needs(play.view) == PoolNeeds(wants=5, wants_again=1, workers=2)
    busy = leased(Play(workers=1), granted=1)
    busy.grant(1, again=(RUN,))
    assert needs(busy.view) == PoolNeeds(wants=1, wants_again=0, workers=1), "a lease was quicker"


def test_a_worker_that_waits_to_be_started_requests_no_runs() -> None:
    play = Play(workers=1)
    play.alter(spawn_at=5.0)
    assert needs(play.view).wants == 0


def test_a_grant_after_a_drain_starts_nothing() -> None:
    play = leased(Play())
    play.event(StopAsked(StopKind.DRAIN, "SIGUSR1", ExitCode.RESUMABLE))
    assert needs(play.view).wants == 0
    play.grant(9, each=9, again=(RUN,))
    assert not play.did(Spawn)
    assert not play.did(Send)
    assert play.view.reruns == ()


def test_an_assigned_run_continues_with_its_attempt_number_and_spent_retries() -> None:
    play = Play()
    play.grant(0, again=(RUN,))
    play.ready(S0)
    assert play.orders(S0) == [Rerun(RUN.run_id, RUN.parameters, 3)]
    play.start(S0, RUN.run_id, 3)
    assert play.view.slots[S0].run == OpenRun(
        RUN.run_id, RUN.parameters, 3, since=0.0, spent_s=5.0, deaths=1, seed=8
    )
    assert play.view.started == 0
    play.event(Died(S0, "SIGKILL"))
    record = play.only(RecordEnd)
    assert (record.end.outcome, record.final) == (Outcome.CRASHED, True), "its retries are spent"


def test_a_run_assigned_twice_is_run_once() -> None:
    play = Play()
    play.grant(0, again=(RUN,))
    play.grant(0, again=(RUN,))
    assert waiting(play) == [RUN.run_id]
    play.ready(S0)
    play.grant(0, again=(RUN,))
    assert waiting(play) == []
    play.start(S0, RUN.run_id, 3)
    play.grant(0, again=(RUN,))
    assert waiting(play) == []


@pytest.mark.parametrize(
    ("why", "exit_code", "told"), [("over: finished", 0, True), ("on elsewhere", None, False)]
)
def test_a_refused_run_that_the_pool_knows_is_skipped(why: str, exit_code: int | None, told: bool) -> None:
    """Refusal and lease: the agent has used one of its runs, the grant is still there."""
    play = leased(Play(), granted=2, each=2)
    play.refuse(S0, "theirs", why)
    assert play.orders(S0) == [SkipRun(RunId("theirs"), exit_code)]
    assert play.did(ReportEnd) is told
    assert (play.view.slots[S0].lease_left, play.view.started) == (1, 0)
    assert play.orders(S1) == [Lease(1)]


def test_a_refused_new_run_is_returned_and_its_worker_drained() -> None:
    play = leased(Play())
    play.refuse(S0, "new", "no run is granted to this machine now")
    assert play.orders(S0) == [Drain()]
    play.event(Died(S0, "exit 0"))
    assert ReturnRuns(S0, keep=None) in play.actions
    assert play.view.slots[S0].restarts == ()


def test_a_refused_assigned_run_is_skipped_and_its_worker_goes_on() -> None:
    play = Play(workers=1)
    play.grant(1, again=(RUN,))
    play.ready(S0)
    play.refuse(S0, RUN.run_id, "on elsewhere")
    assert play.orders(S0) == [SkipRun(RUN.run_id, None)]
    play.back(S0)
    assert play.orders(S0) == [Lease(1)]


def test_a_run_enters_main_and_its_time_begins_once_the_pool_has_granted_it() -> None:
    play = leased(Play())
    play.ask(S0, "a")
    assert play.did(AskStart) and not play.did(Send)
    play.now = 200.0
    play.event(StartGranted(S0, RunId("a")))
    assert play.orders(S0) == [Proceed(RunId("a"), 1, None)]
    run = play.view.slots[S0].run
    assert run is not None and run.since == 200.0


def test_other_workers_go_on_while_a_start_waits_for_the_pool() -> None:
    play = leased(Play())
    play.start(S1, "b")
    play.ask(S0, "a")
    assert next_deadline(play.view) is None, "it may wait for long"
    play.end(S1)
    assert play.did(RecordEnd)
    play.event(DrainAsked(S1))
    assert play.orders(S1) == [Drain()]


def test_a_stop_withdraws_a_pending_start_whose_late_answer_is_ignored() -> None:
    play = leased(Play())
    play.ask(S0, "a")
    play.event(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
    assert WithdrawStart in [type(action) for action in play.actions]
    assert play.orders(S0) == [Interrupt()]
    for answer in (StartGranted(S0, RunId("a")), StartRefused(S0, RunId("a"), "on elsewhere")):
        play.event(answer)
        assert play.actions == ()


def test_a_stop_withdraws_and_records_the_pending_start_of_an_assigned_run() -> None:
    play = Play(workers=1)
    play.grant(1, again=(RUN,))
    play.ready(S0)
    play.ask(S0, RUN.run_id, RUN.attempt)
    play.event(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
    assert play.did(WithdrawStart) and play.did(RecordDrop)


def test_a_machine_leaves_only_after_the_pool_reports_the_sweeps_end() -> None:
    play = Play()
    play.grant(1)
    play.ready(S0)
    play.start(S0, "a")
    play.end(S0)
    play.back(S0)
    assert play.view.ending is None
    play.grant(1, ends=COMPLETE)
    assert play.view.ending is not None
    assert (play.view.ending.exit_code, play.view.ending.stop) == (ExitCode.COMPLETE, None)
    assert play.orders(S0) == [Drain()]


def test_the_pools_stop_interrupts_running_runs_once() -> None:
    """The pool repeats its stop in each answer, which is no second stop."""
    play = leased(Play())
    play.start(S0, "a")
    play.grant(4, ends=STOP)
    assert play.orders(S0) == [Interrupt()]
    play.grant(3, ends=STOP)
    assert not play.did(Kill)
    play.grant(3, ends=replace(STOP, stop=StopKind.KILL))
    assert play.did(Kill)


def test_a_run_that_is_no_longer_assigned_is_dropped_silently() -> None:
    """The pool has it again already."""
    play = Play()
    play.grant(0, again=(RUN,))
    play.grant(0)
    assert (play.actions, waiting(play)) == ((), [])


def test_requeued_runs_go_to_idle_workers_even_if_the_sweep_gives_no_new_ones() -> None:
    play = leased(Play(), granted=9, each=1)
    play.back(S0, short=True)
    play.event(SweepSeen("the sweep is finished"))
    play.alter(lease_at=None)
    assert needs(play.view) == PoolNeeds(wants=1, wants_again=1, over="the sweep is finished", workers=2)
    play.grant(9, each=1, again=(RUN,))
    assert play.orders(S0) == [Rerun(RUN.run_id, RUN.parameters, 3)]


def test_an_exhausted_sweep_uses_no_further_grants_and_requests_none() -> None:
    play = leased(Play(), granted=9, each=1)
    play.back(S0, short=True)
    assert play.did(AskSweep)
    play.event(SweepSeen("the sweep is finished"))
    assert play.orders(S0) == []
    assert needs(play.view).wants == 1
    assert play.view.ending is None
    play.event(Died(S1, "SIGKILL"))
    assert not play.did(Spawn)


def test_a_machine_whose_workers_all_gave_up_returns_its_waiting_runs() -> None:
    play = Play(workers=1)
    play.grant(0, again=(RUN,))
    play.alter(state=SlotState.FATAL)
    play.view = replace(play.view, last_death="SIGSEGV")
    play.event(SweepSeen(""))
    drop = play.only(RecordDrop)
    assert (drop.end.outcome, drop.end.resumable) == (Outcome.STOPPED, True)
    assert is_finished(play.view)


@pytest.mark.parametrize("is_granted", [True, False])
def test_a_pending_run_whose_worker_dies_goes_to_the_pool_if_granted_and_else_to_the_server(
    is_granted: bool,
) -> None:
    play = leased(Play(workers=1), granted=1, each=1)
    play.ask(S0, "a")
    play.event(Died(S0, "SIGKILL"))
    assert ReturnRuns(S0, keep=RunId("a")) in play.actions
    play.now = 10.0
    play.event(TimePassed())
    assert not play.did(Spawn)  # its next worker waits for the answer
    if is_granted:
        play.event(StartGranted(S0, RunId("a")))
        assert play.did(WithdrawStart) and not play.did(Send), "it is left to the pool"
    else:
        play.event(StartRefused(S0, RunId("a"), "no run is granted to this machine now"))
        assert ReturnRuns(S0) in play.actions, "it goes back to its server"
    assert play.view.started == int(is_granted)


@pytest.mark.parametrize("why", [{"ends": STOP}, {"held": HELD}], ids=["a stop", "no time for it"])
def test_a_run_waiting_for_its_next_attempt_is_returned_once_no_run_may_start(why: dict[str, Any]) -> None:
    play = leased(Play(workers=1))
    play.start(S0, "a")
    play.event(Died(S0, "SIGKILL"))
    play.grant(4, **why)
    assert dropped(play) == ("a", 2, Outcome.STOPPED, True)


def test_workers_neither_start_nor_get_work_while_the_pool_holds_starts_back() -> None:
    play = Play()
    play.grant(1)
    play.grant(1, held=HELD)
    assert play.words() == [HELD]
    play.grant(1, held=f"{HELD} (3 s are left)")
    assert play.words() == [], "it is shown once"
    play.ready(S0)
    assert not play.did(Send) and not play.did(Spawn)
    play.grant(2)
    assert play.orders(S0) == [Lease(1)] and Spawn(S1) in play.actions


def test_a_run_whose_worker_dies_while_starts_are_held_gets_no_other_attempt_here() -> None:
    play = leased(Play())
    play.start(S0, "a")
    play.grant(4, held=HELD)
    play.event(Died(S0, "SIGKILL"))
    assert dropped(play) == ("a", 2, Outcome.STOPPED, True)
    assert not play.did(Spawn)
