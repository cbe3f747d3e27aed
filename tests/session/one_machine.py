"""A sweep on one machine: one session after another on a ledger whose disk fills up, killed at any append.

Decisions, count and ledger are the real ones; workers, the sweep's server and the time are made up.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parallel_hpo.core.errors import NoRoomError
from parallel_hpo.core.messages import (
    AttemptEnd,
    Drain,
    Interrupt,
    Lease,
    LeaseEnded,
    Proceed,
    Ready,
    Rerun,
    RunEnded,
    RunStarted,
    SkipRun,
)
from parallel_hpo.core.pool_messages import PoolEvent
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.count.policy import FailureLimits, RestartLimits
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.decide.decide import decide
from parallel_hpo.session.decide.demand import needs
from parallel_hpo.session.decide.events import (
    Action,
    AskSweep,
    Delivered,
    Died,
    Event,
    Kill,
    Opened,
    RecordDrop,
    RecordEnd,
    Reported,
    ReturnRuns,
    Send,
    Spawn,
    SweepSeen,
    TimePassed,
)
from parallel_hpo.session.decide.state import Limits, is_finished, next_deadline, open_view
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware, StoppedError
from tests.session.decide.plays import count_of, tell

BEGAN_AT: Final = 1_000_000.0
"""When the sweep begins, in seconds since the epoch."""
ENOUGH: Final = 2_000
"""Far more turns than a sweep needs."""


class KilledError(Exception):
    """The session's process was killed."""


class FragileLedger(Ledger):
    """A ledger whose disk may be full, and whose session may be killed at its next append."""

    death = ""
    """When: 'before' or 'after' the append; '': it is not killed."""
    is_full = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.appends = 0
        self.safe, _ = self.last_event()
        """Number of the last event that survives a power cut."""

    def append(self, events: Sequence[PoolEvent], *, durable: bool) -> None:
        death, self.death = self.death, ""
        if death == "before":
            raise KilledError
        if self.is_full:
            raise NoRoomError("the ledger can't be written: database or disk is full.")
        super().append(events, durable=durable)
        self.appends += 1
        self.safe = events[-1].number if durable and events else self.safe
        if death == "after":
            raise KilledError


def log_of(ledger: Ledger, after: int = 0) -> list[PoolEvent]:
    """Return the events after this number, as they were written."""
    rows = ledger._db.execute("SELECT * FROM events WHERE number > ? ORDER BY number", (after,))
    return [PoolEvent(number, at, epoch, kind, json.loads(body)) for number, at, epoch, kind, body in rows]


def attempts_in(ledger: Ledger) -> list[tuple[RunId, int]]:
    """Return each attempt's run and number."""
    return list(ledger._db.execute("SELECT run_id, attempt FROM attempts"))


def over_in(ledger: Ledger) -> dict[RunId, Outcome]:
    """Return the outcomes of the runs that are not run again."""
    return {row.run_id: row.outcome for row in ledger.runs() if row.outcome and not row.resumable}


def tables_of(ledger: Ledger) -> dict[str, list[str]]:
    """Return the contents of all tables that are made from events."""
    names = ("runs", "attempts", "consumption", "workers", "marks", "machines", "places", "seeds")
    return {name: sorted(map(repr, ledger._db.execute(f"SELECT * FROM {name}"))) for name in names}


@dataclass
class World:
    """What outlives a session: the time, the sweep's server, and what has really happened."""

    path: Path
    now: float = 0.0
    issued: int = 0
    grid: int | None = None
    """Number of runs that the server has."""
    returned: list[RunId] = field(default_factory=list)
    """Runs that were issued and not started."""
    entered: Counter[tuple[RunId, int]] = field(default_factory=Counter)
    """Attempts that have entered `main`."""
    over: dict[RunId, Outcome] = field(default_factory=dict)
    """Runs whose end is in the ledger."""

    def all_issued(self) -> list[RunId]:
        """Return all runs that the server has issued, oldest first."""
        return [RunId(f"run{number}") for number in range(1, self.issued + 1)]

    def issue(self) -> RunId | None:
        """Return the next run of the server, None if it has no more."""
        if self.returned:
            return self.returned.pop()
        if self.grid is not None and self.issued >= self.grid:
            return None
        self.issued += 1
        return RunId(f"run{self.issued}")


@dataclass
class FakeWorker:
    """A worker: the orders that it has received, and the run that it has."""

    ready: bool = False
    leaving: bool = False
    killed: bool = False
    interrupted: bool = False
    lease: int = 0
    rerun: Rerun | None = None
    waiting: RunId | None = None
    """Its run, which waits to enter `main`."""
    inside: Proceed | None = None
    """Its run inside `main`."""

    def take(self, order: object) -> None:
        match order:
            case Lease(count):
                assert count is not None and self.lease == 0 and self.rerun is None
                self.lease = count
            case Rerun():
                assert self.lease == 0 and self.rerun is None
                self.rerun = order
            case Proceed(run_id):
                assert self.waiting == run_id
                self.inside, self.waiting = order, None
            case SkipRun(run_id):
                assert self.waiting == run_id
                self.waiting = self.rerun = None
            case Drain():
                self.leaving = True
            case Interrupt():
                self.leaving = self.interrupted = True


class ShortWaits(StopAware):
    """Waits a few times for room on the disk, then no longer."""

    def __init__(self, control: Control, world: World) -> None:
        super().__init__(control, grace_s=0.0)
        self._left = 3
        self._world = world

    def sleep(self, seconds: float) -> None:
        self._world.now += seconds
        self._left -= 1
        if not self._left:
            raise StoppedError


@dataclass(frozen=True)
class Launch:
    """What the user asks of a session."""

    count: int | None
    """Total of the sweep's runs."""
    workers: int = 2
    retries: int = 1
    failures: FailureLimits = field(default_factory=lambda: FailureLimits(max_initial=None))
    sweep_timeout_s: float | None = None
    deadline: str | None = None
    restart: RestartLimits = field(default_factory=lambda: RestartLimits(max_restarts=3))


class Session:
    """One session of the sweep, from its launch until it has concluded or was killed."""

    def __init__(self, world: World, ledger: FragileLedger, launch: Launch) -> None:
        self.world = world
        self.ledger = ledger
        self.launch = launch
        self.control = Control(lambda: world.now)
        self.view = open_view(Limits(retries=launch.retries, restart=launch.restart), launch.workers)
        self.workers: dict[Slot, FakeWorker] = {}
        self.ended: dict[RunId, AttemptEnd] = {}
        """Runs that have really ended during this session."""
        self.delivered: dict[Slot, list[RunId]] = {}
        """Runs that the server gave to a slot's workers, and that have not entered `main`."""
        self._spawned: set[Slot] = set()

    def open(self) -> None:
        launch = self.launch
        self.count = count_of(
            self.ledger,
            launch.count,
            now=lambda: BEGAN_AT + self.world.now,
            control=self.control,
            workers=launch.workers,
            limits=launch.failures,
            sweep_timeout_s=launch.sweep_timeout_s,
            deadline=launch.deadline,
        )
        self.handle(Opened())
        self.exchange()

    def close(self) -> None:
        self.control.close()
        self.ledger.__exit__(None, None, None)

    def conclude(self) -> None:
        """End as a session does whose processes are gone."""
        assert self.view.ending is not None
        self.count.flush(ShortWaits(self.control, self.world))
        self.count.conclude(self.view.ending)

    def inside(self) -> list[Proceed]:
        """Return the runs inside `main`."""
        return [worker.inside for worker in self.workers.values() if worker.inside]

    def is_inside(self, slot: Slot) -> bool:
        return slot in self.workers and self.workers[slot].inside is not None

    def finish(self) -> None:
        """Let all workers proceed until the session is over."""
        for _ in range(ENOUGH):
            if self.is_over:
                return
            for slot in list(self.workers):
                self.turn(slot)
            self.pass_time(0.5)
        raise AssertionError(f"the sweep does not end: {self.view}")

    # --- the loop ---------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return is_finished(self.view)

    def handle(self, event: Event) -> None:
        events = deque([event])
        while events:
            decision = decide(self.view, events.popleft(), self.world.now)
            self.view = decision.view
            for action in decision.actions:
                events += self.perform(action)

    def exchange(self) -> None:
        """Exchange with the count what has happened since the last call."""
        self.count.exchange(lambda: needs(self.view), self.handle)
        due_at = self.count.due_at
        assert due_at is None or due_at > self.world.now, "the loop would spin"

    def perform(self, action: Action) -> list[Event]:
        match action:
            case Spawn(slot):
                assert slot not in self.workers, "two processes in one slot"
                self.count.spawn(slot, None, again=slot in self._spawned)
                self._spawned.add(slot)
                self.workers[slot] = FakeWorker()
            case Send(slot, order) if slot in self.workers and not self.workers[slot].killed:
                self.workers[slot].take(order)
                if isinstance(order, Proceed):
                    self.note_entry(order.run_id, order.attempt)
                    self.delivered[slot] = []
            case Kill(slot) if slot in self.workers:
                self.workers[slot].killed = True
            case RecordEnd(run=run, end=end, final=True) | RecordDrop(run, end):
                self.note_end(run.run_id, end)
            case ReturnRuns(slot, keep):
                self.world.returned += [run for run in self.delivered.pop(slot, []) if run != keep]
            case AskSweep():
                grid = self.world.grid
                is_over = grid is not None and self.world.issued >= grid and not self.world.returned
                return [SweepSeen("the grid is used up" if is_over else "")]
        tell(self.count, action, self.view)
        return []

    def note_end(self, run_id: RunId, end: AttemptEnd) -> None:
        if not end.resumable:
            assert run_id not in self.ended, "a run ended twice"
            self.ended[run_id] = end

    def note_entry(self, run_id: RunId, attempt: int) -> None:
        assert run_id not in self.world.over, "a run goes on that has ended"
        assert not self.world.entered[run_id, attempt], "an attempt is made twice"
        self.world.entered[run_id, attempt] += 1

    def pass_time(self, seconds: float) -> None:
        self.world.now += seconds
        deadline = next_deadline(self.view)
        if deadline is not None and deadline <= self.world.now:
            self.handle(TimePassed())
        self.exchange()

    # --- workers ----------------------------------------------------------------------------

    def turn(self, slot: Slot, outcome: Outcome = Outcome.FINISHED, *, preempted: bool = False) -> None:
        """Let a worker take its next step; a run inside `main` ends."""
        worker = self.workers.get(slot)
        if worker is None:
            return
        if worker.killed:
            self.die(slot, "SIGKILL")
        elif not worker.ready:
            worker.ready = True
            self.handle(Reported(slot, Ready()))
        elif run := worker.inside:
            worker.inside = worker.rerun = None
            own: dict[str, Any] = {"outcome": outcome, "preempted": preempted}
            told = {"outcome": Outcome.STOPPED, "resumable": True} if worker.interrupted else own
            self.handle(Reported(slot, RunEnded(run.run_id, run.attempt, **told)))
        elif worker.leaving:
            self.die(slot, "exit 0")
        elif worker.waiting:
            pass
        elif worker.rerun:
            rerun, worker.waiting = worker.rerun, worker.rerun.run_id
            self.handle(Reported(slot, RunStarted(rerun.run_id, rerun.parameters, rerun.attempt)))
        elif worker.lease and (run_id := self.world.issue()) is not None:
            self.deliver(slot, worker, run_id)
        elif self.view.slots[slot].busy:
            short, worker.lease = worker.lease > 0, 0
            self.handle(Reported(slot, LeaseEnded(short=short)))

    def deliver(self, slot: Slot, worker: FakeWorker, run_id: RunId) -> None:
        """Let the server give a worker a run, which may be one that the ledger knows."""
        worker.lease -= 1
        worker.waiting = run_id
        self.delivered.setdefault(slot, []).append(run_id)
        report = RunStarted(run_id, {"x": run_id}, 1)
        row = self.count.known(run_id)
        if row is None:
            self.handle(Reported(slot, report))
        else:
            outcome = None if row.resumable else row.outcome
            self.handle(Delivered(slot, report, row.attempts, outcome, row.seed))

    def die(self, slot: Slot, cause: str) -> None:
        if self.workers.pop(slot, None) is not None:
            self.handle(Died(slot, cause))
