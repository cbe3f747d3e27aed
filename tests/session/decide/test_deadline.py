"""Runs that would not end before the deadline, in sweeps that are played in memory."""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import (
    AttemptEnd,
    Drain,
    Interrupt,
    Lease,
    LeaseEnded,
    Ready,
    RunEnded,
    RunStarted,
)
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.session.decide.decide import decide
from parallel_hpo.session.decide.demand import needs
from parallel_hpo.session.decide.events import (
    Action,
    Died,
    Event,
    Notify,
    Opened,
    RecordDrop,
    RecordEnd,
    RecordStart,
    Reported,
    Send,
    Spawn,
    TimePassed,
)
from parallel_hpo.session.decide.state import Limits, PoolGrant, SweepView, next_deadline, open_view

S0, S1 = Slot(0), Slot(1)


class Story:
    """A sweep with a deadline at 100 s, and what is done in it."""

    def __init__(self, count: int | None = 50, workers: int = 1, took: tuple[float, ...] = ()) -> None:
        limits = Limits(count=count, deadline="100s")
        self.view: SweepView = open_view(limits, workers, deadline_at=100.0, took=took)
        self.done: list[Action] = []
        self.at(0.0, Opened(), *(Reported(Slot(slot), Ready()) for slot in range(workers)))

    def at(self, now: float, *events: Event) -> list[Action]:
        """Let these happen, and return what is done about them."""
        actions: list[Action] = []
        for event in events:
            decision = decide(self.view, event, now)
            self.view = decision.view
            actions += decision.actions
        self.done += actions
        return actions

    def begin(self, now: float, run: str, slot: Slot = S0) -> list[Action]:
        return self.at(now, Reported(slot, RunStarted(RunId(run), {}, 1)))

    def end(self, now: float, run: str, slot: Slot = S0, outcome: Outcome = Outcome.FINISHED) -> list[Action]:
        return self.at(now, Reported(slot, RunEnded(RunId(run), 1, outcome=outcome, value=1.0)))

    def is_back(self, now: float, slot: Slot = S0) -> list[Action]:
        return self.at(now, Reported(slot, LeaseEnded()))


def leases(actions: list[Action]) -> list[int | None]:
    return [a.order.count for a in actions if isinstance(a, Send) and isinstance(a.order, Lease)]


def said(actions: list[Action]) -> list[str]:
    return [a.notice.text for a in actions if isinstance(a, Notify) and isinstance(a.notice, Message)]


def test_a_worker_is_leased_one_run_first_and_then_no_more_than_would_end_in_time() -> None:
    story = Story()
    assert leases(story.done) == [1]
    story.begin(0.0, "a")
    story.end(20.0, "a")
    assert leases(story.is_back(20.0)) == [4]
    assert leases(Story(count=None, took=(30.0,)).done) == [3]


def test_a_sweep_ends_resumable_once_nothing_is_on_and_nothing_more_would_end_in_time() -> None:
    story = Story()
    story.begin(0.0, "a")
    story.end(60.0, "a")
    actions = story.is_back(60.0)
    assert leases(actions) == []
    ending = story.view.ending
    assert ending is not None
    assert (ending.exit_code, ending.stop) == (ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN)
    assert ending.reason.startswith("deadline 100s: no run starts that would not end in time (40 s are left")


def test_an_end_is_recorded_with_what_the_attempt_took_and_all_that_its_worker_told() -> None:
    story = Story()
    story.begin(5.0, "a")
    (record,) = (action for action in story.end(25.0, "a") if isinstance(action, RecordEnd))
    assert record.end == AttemptEnd(outcome=Outcome.FINISHED, value=1.0, duration_s=20.0)


def test_a_count_that_is_reached_in_time_is_complete() -> None:
    story = Story(count=1)
    story.begin(0.0, "a")
    story.end(60.0, "a")
    story.is_back(60.0)
    assert story.view.ending is not None
    assert story.view.ending.exit_code == ExitCode.COMPLETE


def test_a_leased_run_that_comes_too_late_goes_back_unstarted() -> None:
    story = Story(took=(30.0,))
    assert leases(story.done) == [3]
    story.begin(0.0, "a")
    story.end(75.0, "a")
    actions = story.begin(75.0, "b")
    assert Send(S0, Drain()) in actions
    assert not [a for a in actions if isinstance(a, RecordStart)]
    assert story.view.ending is None, "its worker is still to leave, and with it the run that it was issued"
    actions = story.at(76.0, Died(S0, "exit 0"))
    assert not [a for a in actions if isinstance(a, Spawn)]
    assert story.view.ending is not None
    assert story.view.started == 1


def test_while_others_run_an_idle_worker_waits_and_is_told_of_once() -> None:
    story = Story(workers=2, took=(50.0,))
    story.begin(0.0, "a", S0)
    story.begin(1.0, "b", S1)
    story.end(60.0, "a", S0)
    assert [text for text in said(story.is_back(60.0, S0)) if "no run starts" in text]
    story.at(61.0, TimePassed())
    assert story.view.ending is None
    story.end(62.0, "b", S1)
    story.is_back(62.0, S1)
    assert story.view.ending is not None
    assert len([text for text in said(story.done) if "no run starts" in text]) == 1


def test_a_run_shorter_than_those_before_makes_room_for_more() -> None:
    story = Story(workers=2, took=tuple([1.0] * 17 + [50.0] * 2))
    story.begin(0.0, "a", S0)
    story.begin(0.0, "b", S1)
    story.end(70.0, "a", S0)
    assert leases(story.is_back(70.0, S0)) == []
    story.view = replace(story.view, took=tuple([1.0] * 20))
    story.end(71.0, "b", S1)
    assert leases(story.is_back(71.0, S1))


def test_no_attempt_is_made_that_would_not_end_in_time_and_the_run_is_left_to_a_resumed_sweep() -> None:
    story = Story(took=(40.0,))
    story.begin(0.0, "a")
    actions = story.at(70.0, Died(S0, "SIGKILL"))
    assert not [a for a in actions if isinstance(a, Spawn)]
    (dropped,) = [a for a in actions if isinstance(a, RecordDrop)]
    assert (dropped.end.outcome, dropped.end.resumable) == (Outcome.STOPPED, True)
    assert story.view.ending is not None
    assert story.view.ending.exit_code == ExitCode.SWEEP_TIMEOUT


def test_a_run_that_fails_says_nothing_of_how_long_others_take() -> None:
    story = Story(took=(40.0,))
    story.begin(0.0, "a")
    story.end(70.0, "a", outcome=Outcome.FAILED)
    story.is_back(70.0)
    assert story.view.took == (40.0,)


def test_what_is_still_on_at_the_deadline_is_interrupted() -> None:
    story = Story()
    story.begin(0.0, "a")
    assert next_deadline(story.view) == 100.0
    actions = story.at(100.0, TimePassed())
    assert Send(S0, Interrupt()) in actions
    assert said(actions) == ["deadline 100s: 1 running run interrupted, killed after 30 s"]
    assert story.view.ending is not None
    assert (story.view.ending.reason, story.view.ending.exit_code) == ("deadline 100s", 124)
    assert next_deadline(story.view) == 130.0


def test_where_nothing_is_on_at_the_deadline_nothing_is_said_to_be_interrupted() -> None:
    assert said(Story().at(100.0, TimePassed())) == ["deadline 100s: no new runs"]


def test_a_worker_that_is_ready_too_late_is_given_nothing() -> None:
    story = Story(took=(40.0,), workers=2)
    story.begin(0.0, "a", S0)
    story.at(1.0, Died(S1, "SIGKILL"))
    assert story.view.slots[S1].state is SlotState.STARTING
    assert leases(story.at(70.0, Reported(S1, Ready()))) == []
    assert story.view.ending is None


def test_a_machine_that_has_its_own_hour_leaves_a_pool_that_goes_on() -> None:
    """It wants nothing any more, and is gone when nothing is on: what it was granted goes to others."""
    story = Story(count=None, took=(40.0,))
    story.view = open_view(
        story.view.limits, 1, deadline_at=100.0, took=(40.0,), grant=PoolGrant(3, max_lease=9)
    )
    story.at(0.0, Opened(), Reported(S0, Ready()))
    assert leases(story.done)[-1] == 2
    assert needs(story.view, 0.0).wants > 0
    story.begin(0.0, "a")
    assert needs(story.view, 70.0).wants == 0
    story.end(70.0, "a")
    story.is_back(70.0)
    assert story.view.ending is not None
    assert (story.view.ending.exit_code, story.view.ending.stop) == (124, StopKind.DRAIN)


def test_a_machine_that_has_time_waits_for_what_its_pool_grants() -> None:
    story = Story(count=None)
    story.view = open_view(story.view.limits, 1, deadline_at=100.0, grant=PoolGrant())
    story.at(0.0, Opened())
    assert story.view.ending is None
