"""Life stories of sweeps, played to `decide` in memory: no process, no clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import (
    Drain,
    Interrupt,
    Lease,
    LeaseEnded,
    Proceed,
    Ready,
    Rerun,
    RunEnded,
    RunStarted,
    StartFailed,
)
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.count.policy import FailureLimits, RestartLimits
from parallel_hpo.session.decide.decide import decide
from parallel_hpo.session.decide.events import (
    Action,
    AskSweep,
    Died,
    Kill,
    Opened,
    RecordDrop,
    RecordEnd,
    Reported,
    Send,
    Spawn,
    StopAsked,
    SweepSeen,
    TimePassed,
)
from parallel_hpo.session.decide.state import Limits, is_finished, next_deadline, open_view
from tests.session.decide.plays import CountedPlay


@dataclass
class FakeWorker:
    """A worker as the supervisor sees one: its orders in, its next report out."""

    ready: bool = False
    leaving: bool = False
    lease: int = 0
    rerun: Rerun | None = None
    inside: tuple[RunId, int] | None = None
    waiting: tuple[RunId, int] | None = None


class Play(CountedPlay):
    """A sweep in memory: performs the actions on fake workers and keeps what was recorded."""

    def __init__(
        self, count: int | None, workers: int = 2, *, grid: int | None = None, **limits: Any
    ) -> None:
        """`grid` is the number of runs that the sweep gives."""
        super().__init__(open_view(Limits(**limits), workers), count, limits=FailureLimits(max_initial=None))
        self.grid = grid
        self.alive: dict[Slot, FakeWorker] = {}
        self.issued = 0
        self.given_back: list[RunId] = []
        self.starts: list[tuple[RunId, int]] = []
        self.ends: dict[RunId, Outcome] = {}
        self.spawned = 0
        self.event(Opened())

    def used_up(self) -> bool:
        return self.grid is not None and self.issued >= self.grid and not self.given_back

    def perform(self, action: Action) -> None:
        super().perform(action)
        match action:
            case Spawn(slot):
                assert slot not in self.alive, "two processes in one slot"
                self.alive[slot] = FakeWorker()
                self.spawned += 1
            case Send(slot, order):
                self.order(slot, order)
            case RecordEnd(_, run, end, final):
                if final:
                    assert run.run_id not in self.ends, "a run ended twice"
                    self.ends[run.run_id] = end.outcome
            case RecordDrop(run, end):
                assert run.run_id not in self.ends, "a run ended twice"
                self.ends[run.run_id] = end.outcome
            case Kill(slot):
                self.die(slot, "SIGKILL")
            case AskSweep():
                self.event(SweepSeen("the grid is used up" if self.used_up() else ""))

    def order(self, slot: Slot, order: object) -> None:
        worker = self.alive.get(slot)
        if worker is None:
            return
        match order:
            case Lease(count):
                assert worker.lease == 0 and worker.rerun is None
                worker.lease = 10**9 if count is None else count
            case Rerun():
                assert worker.lease == 0
                worker.rerun = order
            case Proceed(run_id, attempt):
                assert worker.waiting == (run_id, attempt)
                assert run_id not in self.ends, "a run was started that has ended"
                self.starts.append((run_id, attempt))
                worker.inside, worker.waiting = worker.waiting, None
            case Drain():
                worker.leaving = True
            case Interrupt():
                worker.leaving = True
                if worker.inside:
                    run_id, attempt = worker.inside
                    worker.inside = None
                    ended = RunEnded(
                        run_id, attempt, outcome=Outcome.STOPPED, reason="interrupted", resumable=True
                    )
                    self.event(Reported(slot, ended))

    def die(self, slot: Slot, cause: str) -> None:
        worker = self.alive.pop(slot, None)
        if worker is not None:
            if worker.waiting and worker.waiting[1] == 1 and not worker.rerun:
                self.given_back.append(worker.waiting[0])
            self.event(Died(slot, cause))

    def turn(self, slot: Slot) -> None:
        """Let one worker do its next thing."""
        worker = self.alive.get(slot)
        if worker is None:
            return
        if not worker.ready:
            worker.ready = True
            self.event(Reported(slot, Ready()))
        elif worker.inside:
            run_id, attempt = worker.inside
            worker.inside = None
            self.event(Reported(slot, RunEnded(run_id, attempt, outcome=Outcome.FINISHED, value=1.0)))
            if worker.rerun:
                worker.rerun = None
                self.event(Reported(slot, LeaseEnded()))
            elif worker.lease == 0:
                self.event(Reported(slot, LeaseEnded()))
        elif worker.leaving:
            self.die(slot, "exit 0")
        elif worker.rerun:
            worker.waiting = (worker.rerun.run_id, worker.rerun.attempt)
            self.event(
                Reported(slot, RunStarted(worker.rerun.run_id, worker.rerun.parameters, worker.rerun.attempt))
            )
        elif worker.lease and self.used_up():
            worker.lease = 0
            self.event(Reported(slot, LeaseEnded(short=True)))
        elif worker.lease:
            worker.lease -= 1
            run_id = self.given_back.pop() if self.given_back else self.new_run()
            worker.waiting = (run_id, 1)
            self.event(Reported(slot, RunStarted(run_id, {}, 1)))

    def new_run(self) -> RunId:
        self.issued += 1
        return RunId(f"run{self.issued}")

    def time(self) -> None:
        deadline = next_deadline(self.view)
        if deadline is not None:
            assert deadline > self.now, "a deadline in the past would spin"
            self.now = deadline
            self.event(TimePassed())

    def finish(self) -> None:
        """Let everything run to its end without further mishap."""
        for _ in range(10_000):
            if is_finished(self.view):
                return
            self.now += 0.01
            for slot in list(self.alive):
                self.turn(slot)
            if not self.alive:
                self.time()
        raise AssertionError(f"the sweep does not end: {self.view}")

    @property
    def recorded(self) -> dict[RunId, Outcome | None]:
        """Runs and their outcomes, by the log."""
        return {row.run_id: row.outcome for row in self.ledger.runs()}

    @property
    def outcomes(self) -> list[Outcome]:
        return list(self.ends.values())


def test_a_sweep_without_faults_performs_exactly_its_count() -> None:
    play = Play(count=10, workers=3)
    play.finish()
    assert play.outcomes == [Outcome.FINISHED] * 10
    assert play.view.ending and play.view.ending.exit_code == ExitCode.COMPLETE


def test_no_more_workers_are_started_than_there_are_runs() -> None:
    play = Play(count=2, workers=8)
    assert play.spawned == 2


def test_a_grid_without_a_count_ends_when_it_is_used_up() -> None:
    play = Play(count=None, workers=3, grid=12)
    play.finish()
    assert play.outcomes == [Outcome.FINISHED] * 12
    assert play.view.ending and play.view.ending.reason == "the grid is used up"


def test_a_killed_workers_run_is_run_again_under_its_id_and_no_other_run_is_added() -> None:
    play = Play(count=5, workers=2)
    for slot in (Slot(0), Slot(0)):
        play.turn(slot)
    assert play.starts == [("run1", 1)]
    play.die(Slot(0), "SIGKILL")
    play.finish()
    assert ("run1", 2) in play.starts
    assert len(play.ends) == 5 and len(play.starts) == 6


def test_when_all_workers_gave_up_the_sweep_ends_with_the_failure_code() -> None:
    play = Play(count=50, workers=2, retries=100, restart=RestartLimits(max_restarts=2))
    for _ in range(100):
        for slot in list(play.alive):
            play.turn(slot)
            play.turn(slot)
            play.die(slot, "SIGKILL")
        if is_finished(play.view):
            break
        play.time()
    assert play.view.ending and play.view.ending.exit_code == ExitCode.FAILURE_POLICY
    assert {slot.state for slot in play.view.slots} == {SlotState.FATAL}
    assert len(play.ends) == len({run for run, _ in play.starts})


def test_a_slot_that_gives_up_leaves_its_share_to_the_others() -> None:
    play = Play(count=6, workers=2, restart=RestartLimits(max_restarts=0))
    play.turn(Slot(0))
    play.turn(Slot(0))
    play.die(Slot(0), "SIGKILL")
    play.finish()
    assert play.outcomes == [Outcome.FINISHED] * 6


def test_two_deaths_before_ready_with_one_cause_end_the_sweep() -> None:
    play = Play(count=5, workers=2)
    for slot in (Slot(0), Slot(1)):
        play.event(Reported(slot, StartFailed("ModuleNotFoundError: x", "Traceback …")))
        play.die(slot, "exit 1")
    play.finish()
    assert play.view.ending and play.view.ending.exit_code == ExitCode.FAILURE_POLICY
    assert "ModuleNotFoundError" in play.view.ending.reason


def test_once_a_worker_was_ready_deaths_of_others_before_they_are_cost_restarts_only() -> None:
    play = Play(count=5, workers=2)
    play.turn(Slot(0))
    for _ in range(4):
        play.die(Slot(1), "SIGKILL")
        if Slot(1) not in play.alive:
            play.time()
    assert play.view.ending is None


def test_an_interrupt_stops_every_run_and_each_is_accounted_for() -> None:
    play = Play(count=10, workers=2)
    for slot in (Slot(0), Slot(1), Slot(0), Slot(1)):
        play.turn(slot)
    play.event(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
    play.finish()
    assert play.outcomes == [Outcome.STOPPED] * 2
    assert play.view.ending and play.view.ending.exit_code == 130


def test_a_second_stop_kills_at_once() -> None:
    play = Play(count=10, workers=2)
    play.turn(Slot(0))
    play.turn(Slot(0))
    play.alive[Slot(0)].inside = None  # deaf: swallows the interrupt
    play.event(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
    play.event(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
    assert not play.alive
    assert is_finished(play.view)
    assert play.outcomes == [Outcome.STOPPED]


def test_a_drain_after_an_interrupt_changes_nothing() -> None:
    play = Play(count=10, workers=1)
    play.turn(Slot(0))
    play.turn(Slot(0))
    play.alive[Slot(0)].inside = None  # deaf: swallows the interrupt
    play.event(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
    before = play.view
    play.event(StopAsked(StopKind.DRAIN, "SIGUSR1", ExitCode.RESUMABLE))
    assert play.view == before
    assert Slot(0) in play.alive


def test_a_drain_lets_the_running_runs_finish_and_starts_none() -> None:
    play = Play(count=10, workers=2)
    for slot in (Slot(0), Slot(0), Slot(1)):
        play.turn(slot)
    play.event(StopAsked(StopKind.DRAIN, "SIGUSR1", ExitCode.RESUMABLE))
    play.finish()
    assert play.outcomes == [Outcome.FINISHED]
    assert play.view.ending and play.view.ending.exit_code == ExitCode.RESUMABLE


def test_a_run_that_was_about_to_start_when_the_stop_came_is_not_recorded() -> None:
    play = Play(count=10, workers=1)
    play.turn(Slot(0))
    play.event(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
    play.event(Reported(Slot(0), RunStarted(RunId("late"), {}, 1)))
    assert play.starts == []


def test_a_late_report_about_an_ended_run_changes_nothing() -> None:
    play = Play(count=10, workers=1)
    play.turn(Slot(0))
    before = play.view
    play.event(Reported(Slot(0), RunEnded(RunId("old"), 1, outcome=Outcome.FINISHED)))
    assert play.view == before


def test_an_agent_that_returns_early_from_a_living_sweep_is_replaced_and_asked_again_later() -> None:
    play = Play(count=10, workers=1, grid=1000)
    play.turn(Slot(0))
    play.alive[Slot(0)].lease = 0
    play.event(Reported(Slot(0), LeaseEnded(short=True)))
    play.die(Slot(0), "exit 0")
    assert not play.alive
    play.time()
    play.turn(Slot(0))
    assert play.alive[Slot(0)].lease > 0


@given(
    count=st.integers(1, 12),
    workers=st.integers(1, 4),
    retries=st.integers(0, 2),
    script=st.lists(st.tuples(st.sampled_from(["turn", "die", "time"]), st.integers(0, 3)), max_size=60),
)
def test_no_order_of_deaths_performs_more_or_fewer_runs_than_count(
    count: int, workers: int, retries: int, script: list[tuple[str, int]]
) -> None:
    play = Play(
        count=count, workers=workers, retries=retries, restart=RestartLimits(max_restarts=1000, window_s=1)
    )
    for what, number in script:
        slot = Slot(number % workers)
        if what == "turn":
            play.turn(slot)
        elif what == "die":
            play.die(slot, f"exit {number}")  # several causes, or the start would be called hopeless
        else:
            play.time()
        if is_finished(play.view):
            break
    if play.view.ending and play.view.ending.exit_code == ExitCode.FAILURE_POLICY:
        return
    play.finish()
    assert len(play.ends) == count
    assert play.recorded == play.ends


@given(
    st.lists(st.sampled_from(["turn0", "turn1", "die0", "INTERRUPT", "DRAIN", "KILL", "time"]), max_size=40)
)
def test_whatever_is_asked_every_started_run_is_accounted_for_once(script: list[str]) -> None:
    play = Play(count=8, workers=2)
    for word in [*script, "INTERRUPT"]:
        if word.startswith("turn"):
            play.turn(Slot(int(word[-1])))
        elif word.startswith("die"):
            play.die(Slot(0), "SIGKILL")
        elif word == "time":
            play.time()
        else:
            play.event(StopAsked(StopKind[word], word, 130))
        if is_finished(play.view):
            break
    play.finish()
    assert set(play.ends) == {run for run, _ in play.starts}
    assert play.recorded == play.ends


def test_a_decision_leaves_the_view_it_was_given_alone() -> None:
    view = open_view(Limits(), 2)
    copy = replace(view)
    decide(view, Opened(), 0.0)
    assert view == copy
