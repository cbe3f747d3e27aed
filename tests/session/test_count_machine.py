"""On one machine, no order of kills, full disks, power cuts and stops loses a run or starts one too many.

The same for the pool of many machines: `tests/server/rules/test_pool_play.py`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from parallel_hpo.core.errors import ExitCode, NoRoomError
from parallel_hpo.core.types import Outcome, Slot, StopKind
from parallel_hpo.count.policy import FailureLimits, RestartLimits
from parallel_hpo.count.state import PoolRun, RunStatus
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.decide.events import DrainAsked, ScaleAsked, StopAsked
from parallel_hpo.session.resume import read_earlier, waiting_run
from tests.session.one_machine import (
    FragileLedger,
    KilledError,
    Launch,
    Session,
    World,
    attempts_in,
    log_of,
    over_in,
    tables_of,
)

SLOTS: Final = 3
LIKELY: Final = (
    *(["all_go_on"] * 20 + ["worker_goes_on"] * 16 + ["time_passes"] * 6 + ["worker_dies"] * 4),
    *(["disk_fills_up"] * 4 + ["disk_has_room"] * 4 + ["will_be_killed"] * 2 + ["server_repeats_a_run"] * 2),
    *("is_killed", "power_is_cut", "stop", "workers_are_asked", "device_is_bad"),
)
"""Names of events, repeated by their frequency."""
OUTCOMES: Final = (*[Outcome.FINISHED] * 3, *[Outcome.FAILED] * 3, Outcome.STOPPED)
FAILURES: Final = (
    *[FailureLimits(max_initial=None)] * 3,
    FailureLimits(max_initial=2),
    FailureLimits(max_initial=None, max_consecutive=2),
    FailureLimits(max_initial=None, max_total=3),
)


WITHOUT_SESSION: Final = ("launch", "power_is_cut")
"""Events that may happen while no session runs."""


class OneMachine(RuleBasedStateMachine):
    """A sweep is launched, killed, stopped and resumed on one machine, with another count each time."""

    @initialize(count=st.integers(2, 9), grid=st.none() | st.integers(1, 12))
    def begin_sweep(self, count: int, grid: int | None) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name) / "0.db", grid=grid)
        self.count = self.limit = count
        self.has_room = True
        self.safe = 0
        self.replayed = Ledger(None)
        """The tables that the log makes."""
        self.running: Session | None = None
        self.survive("launch", 0, 0)

    @property
    def session(self) -> Session:
        assert self.running is not None
        return self.running

    @rule(what=st.sampled_from(LIKELY), i=st.integers(0, SLOTS - 1), n=st.integers(0, 999))
    def something_happens(self, what: str, i: int, n: int) -> None:
        """`n` chooses among the ways in which it may happen."""
        if self.running is None:
            self.survive(what if what in WITHOUT_SESSION else "launch", i, n)
        elif what != "launch":
            self.survive(what, i, n)

    def survive(self, what: str, i: int, n: int) -> None:
        """Let an event happen, even if it kills the session, and conclude a session that is over."""
        try:
            getattr(self, what)(i, n)
            if self.running is not None:
                self.running.exchange()
            if self.running is not None and self.running.is_over:
                self.running.conclude()
                self.bury()
        except KilledError:
            self.bury()

    # --- sessions ---------------------------------------------------------------------------

    def launch(self, i: int, n: int) -> None:
        """Begin or resume the sweep, with more or fewer runs, or as many."""
        self.count += (0, 0, 0, 2, 4, -1, -3)[n % 7]
        self.count = max(self.count, 0 if n % 4 == 3 else len(self.world.over) + 2)
        self.has_room = self.has_room or n % 4 > 0
        launch = Launch(
            self.count,
            workers=1 + i,
            retries=n // 7 % 3,
            failures=FAILURES[n // 21 % len(FAILURES)],
            sweep_timeout_s=(None, None, None, 8.0)[n // 2 % 4],
            deadline=(None, None, "8s")[n // 3 % 3],
        )
        self.open(launch, death=(*[""] * 10, "before", "after")[n // 5 % 12])

    def open(self, launch: Launch, death: str = "") -> None:
        ledger = FragileLedger(self.world.path)
        ledger.death = death
        self.running = Session(self.world, ledger, launch)
        known = {row.run_id for row in ledger.runs()}
        self.limit = max(self.count, len(known))
        self.world.returned = [run for run in self.world.all_issued() if run not in known]
        ledger.is_full = not self.has_room
        try:
            self.running.open()
        except NoRoomError:
            self.bury()

    def bury(self) -> None:
        """Close a session that has concluded, or that was killed with all its workers."""
        self.look_at_ledger()
        self.safe = self.session.ledger.safe
        self.session.close()
        self.running = None

    def will_be_killed(self, _i: int, n: int) -> None:
        self.session.ledger.death = ("before", "after")[n % 2]

    def is_killed(self, _i: int, _n: int) -> None:
        raise KilledError

    def power_is_cut(self, _i: int, n: int) -> None:
        """The disk loses the log's last events, but none up to the last start that was granted."""
        if self.running is not None:
            self.bury()
        with FragileLedger(self.world.path) as ledger:
            log = log_of(ledger)
        kept = self.safe + n % (len(log) - self.safe + 1)
        self.world.path = self.world.path.with_stem(f"{int(self.world.path.stem) + 1}")
        self.replayed = Ledger(None)
        with FragileLedger(self.world.path) as ledger:
            ledger.append(log[:kept], durable=True)
            self.world.over = over_in(ledger)

    def stop(self, _i: int, n: int) -> None:
        kind = list(StopKind)[n % len(StopKind)]
        asked = StopAsked(kind, kind.value, ExitCode.RESUMABLE)
        self.session.control.put(asked)
        self.session.control.take()
        self.session.handle(asked)

    # --- workers, disk, time, and the server --------------------------------------------------

    def all_go_on(self, _i: int, n: int) -> None:
        self.session.pass_time(0.5)
        for slot in list(self.session.workers):
            if not (n % 2 and self.session.is_inside(slot)):
                self.worker_goes_on(slot, n // (2 + slot))

    def worker_goes_on(self, i: int, n: int) -> None:
        self.session.turn(Slot(i), OUTCOMES[n % len(OUTCOMES)], preempted=n % 11 == 0)

    def worker_dies(self, i: int, n: int) -> None:
        busy = [slot for slot, worker in self.session.workers.items() if worker.inside or worker.waiting]
        if busy and n % 4:
            self.session.die(busy[i % len(busy)], f"exit {n % 50}")
        else:
            self.session.die(Slot(i), f"exit {n}")

    def workers_are_asked(self, i: int, n: int) -> None:
        if n % 2:
            self.session.handle(ScaleAsked(1 + i))
        elif i < len(self.session.view.slots):
            self.session.handle(DrainAsked(Slot(i)))

    def device_is_bad(self, i: int, _n: int) -> None:
        self.session.count.quarantine(f"gpu {i}", "fell off the bus")

    def disk_fills_up(self, _i: int, _n: int) -> None:
        self.has_room = False
        self.session.ledger.is_full = True

    def disk_has_room(self, _i: int, _n: int) -> None:
        self.has_room = True
        self.session.ledger.is_full = False

    def time_passes(self, _i: int, n: int) -> None:
        self.session.pass_time(0.5 * (1 + n % 7))

    def server_repeats_a_run(self, _i: int, n: int) -> None:
        issued = self.world.all_issued()
        if issued:
            self.world.returned.append(issued[n % len(issued)])

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def ledger_and_count_know_what_has_happened(self) -> None:
        if self.running is not None:
            self.look_at_ledger()
            self.look_at_count()

    def look_at_ledger(self) -> None:
        ledger = self.session.ledger
        rows = list(ledger.runs())
        assert len(rows) <= self.limit, "more runs started than are counted"
        assert set(self.world.entered) <= set(attempts_in(ledger)), (
            "an attempt began that is not in the ledger"
        )
        over = over_in(ledger)
        assert self.world.over.items() <= over.items(), "a run that has ended is open again"
        ends = {run_id: end.outcome for run_id, end in self.session.ended.items()}
        assert over.items() <= (self.world.over | ends).items(), "a run has an end that is not its own"
        self.world.over = over
        self.compare_with_replay(ledger)

    def compare_with_replay(self, ledger: Ledger) -> None:
        """Compare the ledger's tables with those that its log makes."""
        before, _ = self.replayed.last_event()
        events = log_of(ledger, before)
        assert [event.number for event in events] == list(range(before + 1, before + 1 + len(events)))
        self.replayed.append(events, durable=False)
        assert tables_of(ledger) == tables_of(self.replayed)

    def look_at_count(self) -> None:
        """Compare what the session knows with its workers, and with what the next one would know."""
        count, ended = self.session.count, self.session.ended
        earlier = read_earlier(self.session.ledger.runs())
        assert (count._pool.started, count._pool.open_runs) == (earlier.started, len(earlier.reruns))
        assert {run_id: next_of(run) for run_id, run in count._runs.items()} == {
            run.run_id: next_of(waiting_run(run)) for run in earlier.reruns
        }
        inside = {run.run_id for run in self.session.inside()}
        assert inside <= set(count._runs), "a run goes on that the count has ended"
        if not count._outbox.has_pending:
            assert set(ended) <= set(self.world.over), "an end got lost"
            on = {run.run_id for run in count._runs.values() if run.on}
            assert on == inside, "the count waits for an end that nobody will report"

    def teardown(self) -> None:
        """Let all go well from now on: the sweep gets complete, and each of its runs has ended once."""
        if not hasattr(self, "world"):
            return
        if self.running is not None:
            self.bury()
        self.has_room = True
        self.open(Launch(self.count, restart=RestartLimits(max_restarts=1000)))
        self.session.finish()
        self.session.conclude()
        assert self.session.view.ending is not None
        assert self.session.view.ending.exit_code in (ExitCode.COMPLETE, ExitCode.NO_RUN_FINISHED)
        rows = list(self.session.ledger.runs())
        grid = self.limit if self.world.grid is None else self.world.grid
        assert min(grid, self.limit) == len(rows)
        assert len(over_in(self.session.ledger)) == len(rows), "a run has no end"
        ends = Counter(event.body["run_id"] for event in log_of(self.session.ledger) if event.kind == "ended")
        assert ends == {row.run_id: 1 for row in rows}
        self.bury()
        self.folder.cleanup()


def next_of(run: PoolRun) -> tuple[object, ...]:
    """Return what the next attempt of a run would be given."""
    attempt = run.attempt + 1 if run.status is RunStatus.RUNNING else run.attempt
    return attempt, run.deaths, pytest.approx(run.spent_s), run.seed, run.parameters


TestOneMachine = OneMachine.TestCase
TestOneMachine.settings = settings(max_examples=50, stateful_step_count=40)


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_one_machine_with_many_examples() -> None:
    run_state_machine_as_test(OneMachine, settings=settings(max_examples=400, stateful_step_count=60))
