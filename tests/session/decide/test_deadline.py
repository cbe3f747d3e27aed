"""Runs that would not end before the deadline, in sweeps that are played in memory with their count."""

from __future__ import annotations

from parallel_hpo.core.messages import Drain, Interrupt, LeaseEnded, Ready, RunEnded, RunStarted
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.session.decide.events import (
    AskStart,
    Died,
    Event,
    Opened,
    Reported,
    Send,
    Spawn,
)
from parallel_hpo.session.decide.state import Limits, next_deadline, open_view
from tests.session.decide.plays import CountedPlay

S0, S1 = Slot(0), Slot(1)


class Story(CountedPlay):
    """A sweep of 50 runs with a deadline at 100 s."""

    def __init__(self, workers: int = 1, took: tuple[float, ...] = ()) -> None:
        super().__init__(open_view(Limits(), workers), 50, deadline="100s", took=took)
        self.event(Opened())
        for slot in range(workers):
            self.event(Reported(Slot(slot), Ready()))

    def at(self, now: float, event: Event) -> None:
        """Handle an event at this time, after what the count does before it."""
        due_at = self.count.due_at
        if due_at is not None and due_at < now:
            self.pass_time(due_at)
        self.now = now
        self.event(event)

    def begin(self, now: float, run: str, slot: Slot = S0) -> None:
        self.at(now, Reported(slot, RunStarted(RunId(run), {}, 1)))

    def ends(self, now: float, run: str, slot: Slot = S0) -> None:
        self.at(now, Reported(slot, RunEnded(RunId(run), 1, outcome=Outcome.FINISHED)))

    def end_lease(self, now: float, slot: Slot = S0) -> None:
        self.at(now, Reported(slot, LeaseEnded()))


def test_a_leased_run_that_is_too_late_is_returned_unstarted_and_its_worker_drained() -> None:
    story = Story(workers=2, took=(30.0,))
    story.begin(0.0, "long", S1)
    story.begin(0.0, "a", S0)
    story.ends(75.0, "a", S0)
    assert story.view.slots[S0].lease_left > 0
    story.begin(75.0, "late", S0)
    assert story.orders(S0) == [Drain()]
    story.at(76.0, Died(S0, "exit 0"))
    assert not story.did(Spawn)
    assert [run.run_id for run in story.ledger.runs()] == ["long", "a"]


def test_one_message_announces_that_no_more_runs_start_and_active_runs_may_finish() -> None:
    story = Story(workers=2, took=(50.0,))
    story.begin(0.0, "a", S0)
    story.begin(1.0, "b", S1)
    assert story.count.due_at is not None
    story.pass_time(story.count.due_at)
    (words,) = story.words()
    assert "no run starts that would not end in time (50 s are left" in words
    story.ends(60.0, "a", S0)
    story.end_lease(60.0, S0)
    assert (story.words(), story.orders(0), story.view.ending) == ([], [], None)
    story.ends(62.0, "b", S1)
    assert story.view.ending is not None


def test_active_runs_are_interrupted_at_the_deadline_and_killed_after_the_grace_time() -> None:
    story = Story()
    story.begin(0.0, "a")
    assert (story.count.due_at, next_deadline(story.view)) == (100.0, None)
    story.pass_time(100.0)
    assert Send(S0, Interrupt()) in story.actions
    assert story.words() == ["deadline 100s: 1 running run interrupted, killed after 30 s"]
    assert (story.count.due_at, next_deadline(story.view)) == (None, 130.0)
    idle = Story()
    idle.pass_time(100.0)
    assert idle.words() == ["deadline 100s: no new runs"], "where no run is active"
    assert not idle.did(AskStart)
