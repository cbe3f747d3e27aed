"""The count of a sweep on one machine, with its ledger on the disk, which may be full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode, LedgerError
from parallel_hpo.core.messages import AttemptEnd, Consumption, SweepEnd
from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.pool_messages import Granted, PooledEnd, as_json, read
from parallel_hpo.core.types import Outcome, RunId, Slot, StopKind
from parallel_hpo.records.reader import QUARANTINE, RESTART, open_reader, performed
from parallel_hpo.session.count import RETRY_S, CountEvent, end_of
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import PoolAnswered, RecordEnd, StartGranted, StartRefused, StopAsked
from parallel_hpo.session.decide.state import OpenRun
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware
from tests.server.pool_requests import end, start, stopped
from tests.session.decide.plays import count_of
from tests.session.one_machine import FragileLedger, log_of

STOP = StopAsked(StopKind.INTERRUPT, "SIGINT", 130)
IDLE = PoolNeeds(wants=2, wants_again=2, workers=2)
"""The demand of two idle workers."""


class Launch:
    """One launch of a sweep, which continues the ledger."""

    def __init__(self, path: Path, count: int | None = 9, **known: Any) -> None:
        self.now = 0.0
        self.told: list[Notice] = []
        self.ledger = FragileLedger(path)
        self.control = Control(lambda: self.now)
        known |= {"control": self.control, "observer": self.told.append}
        self.count = count_of(self.ledger, count, now=lambda: self.now, **known)
        self.last = Granted()
        self.answers()

    def answers(self) -> list[StartGranted | StartRefused]:
        """Return the answers about starts; keep the last one about what this machine may do."""
        self.count.publish(IDLE)
        taken = self.count.take()
        for each in taken:
            if isinstance(each, PoolAnswered):
                self.last = each.answer
        return [each for each in taken if not isinstance(each, PoolAnswered)]

    def begin(self, run: str, attempt: int = 1) -> bool:
        """Ask for a start; return whether it is granted."""
        self.count.ask(start(run, attempt), IDLE)
        return self.answers() == [StartGranted(Slot(0), RunId(run))]

    def why_not(self, run: str) -> str:
        self.count.ask(start(run), IDLE)
        (answer,) = self.answers()
        assert isinstance(answer, StartRefused)
        return answer.reason

    def end(self, run: str, outcome: Outcome = Outcome.FINISHED, attempt: int = 1) -> None:
        self.count.end(end(run, attempt, outcome))
        self.answers()

    def tick(self, now: float) -> None:
        self.now = now
        self.count.tick()
        self.answers()

    def flush(self, grace_s: float = 5.0) -> None:
        """End as a session does whose runs have been stopped."""
        waits = StopAware(self.control, grace_s=grace_s)
        waits.sweep_is_open()
        self.count.flush(waits)

    def words(self) -> list[str]:
        return [each.text for each in self.told if isinstance(each, Message)]

    def outcomes(self) -> dict[str, Outcome | None]:
        return {row.run_id: row.outcome for row in self.ledger.runs()}

    def kinds(self) -> list[str]:
        """Return the kinds of the logged events."""
        return [event.kind for event in log_of(self.ledger)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s" / "ledger.db"


@contextmanager
def launched(path: Path, **known: Any) -> Iterator[Launch]:
    launch = Launch(path, **known)
    with closing(launch.control), launch.ledger:
        yield launch


@pytest.fixture
def launch(path: Path) -> Iterator[Launch]:
    with launched(path) as launch:
        yield launch


# --- starts and ends ---------------------------------------------------------------------


def test_a_granted_start_is_synced_to_disk_and_an_end_is_not(launch: Launch, path: Path) -> None:
    assert launch.begin("a")
    with open_reader(path) as reader:
        assert [row.run_id for row in reader.runs()] == ["a"]
    launch.end("a")
    assert launch.kinds() == ["joined", "started", "ended"]
    assert launch.ledger.safe == 2


def test_a_run_that_has_ended_does_not_start_again(launch: Launch) -> None:
    launch.begin("a")
    launch.end("a", Outcome.FAILED)
    assert launch.why_not("a") == "over: failed"


def test_the_state_of_a_run_includes_events_of_the_current_turn(launch: Launch) -> None:
    assert (launch.count.known(RunId("a")), launch.count.begun_with({"x": 1})) == (None, 0)
    launch.begin("a")
    assert (known := launch.count.known(RunId("a"))) is not None and known.outcome is None
    launch.count.end(end("a"))
    assert (known := launch.count.known(RunId("a"))) is not None and known.outcome is Outcome.FINISHED
    launch.count.ask(start("b"), IDLE)
    assert launch.count.begun_with({"x": 1}) == 2


def test_a_start_withdrawn_after_its_grant_waits_for_its_next_attempt(launch: Launch) -> None:
    launch.begin("a")
    launch.count.withdraw(stopped("a"))
    launch.answers()
    assert [(run.run_id, run.attempt) for run in launch.last.again] == [("a", 2)]
    assert launch.begin("a", 2)


def test_what_an_answer_leads_to_is_exchanged_in_the_same_turn(launch: Launch) -> None:
    def handle(answer: CountEvent) -> None:
        if isinstance(answer, StartGranted):
            launch.count.end(end("a"))

    launch.count.ask(start("a"), IDLE)
    launch.count.exchange(lambda: IDLE, handle)
    assert launch.outcomes() == {"a": Outcome.FINISHED}


# --- a full disk -------------------------------------------------------------------------


def test_on_a_full_disk_no_run_starts_and_pending_requests_are_recorded_once_later(launch: Launch) -> None:
    for run in "ab":
        launch.begin(run)
    launch.ledger.is_full = True
    assert not launch.begin("c")
    launch.end("a")
    launch.end("b", Outcome.FAILED)
    launch.count.spawn(Slot(1), "GPU-1", again=True)
    assert launch.count.due_at == RETRY_S
    launch.tick(RETRY_S)
    assert launch.outcomes() == {"a": None, "b": None}
    launch.ledger.is_full = False
    launch.tick(1.5 * RETRY_S)
    assert launch.outcomes() == {"a": None, "b": None}, "it is tried again after a while, and not before"
    launch.now = 2 * RETRY_S
    launch.count.tick()
    assert launch.answers() == [StartGranted(Slot(0), RunId("c"))]
    assert launch.outcomes() == {"a": Outcome.FINISHED, "b": Outcome.FAILED, "c": None}
    launch.end("c")
    launch.tick(3 * RETRY_S)
    written = Counter(launch.kinds())
    assert (written["spawned"], written["started"], written["ended"]) == (1, 3, 3)
    assert launch.count.due_at is None
    began, over = launch.words()
    assert "The sweep waits until it can be written" in began
    assert over == "the ledger can be written again: the sweep goes on"


def test_a_run_whose_start_waits_for_room_does_not_begin_after_a_stop(launch: Launch) -> None:
    launch.ledger.is_full = True
    launch.begin("a")
    launch.control.put(STOP)
    launch.count.withdraw(stopped("a"))
    launch.ledger.is_full = False
    launch.flush()
    assert (launch.answers(), launch.outcomes()) == ([], {})


@pytest.mark.parametrize("is_full_still", [False, True])
def test_ends_after_a_stop_are_written_once_there_is_room_and_otherwise_reported_missing(
    launch: Launch, is_full_still: bool
) -> None:
    launch.begin("a")
    launch.control.put(STOP)
    launch.ledger.is_full = True
    launch.end("a", Outcome.STOPPED)
    launch.ledger.is_full = is_full_still
    launch.flush(grace_s=0.0)
    assert launch.outcomes() == {"a": None if is_full_still else Outcome.STOPPED}
    missing = [text for text in launch.words() if text.startswith("1 record could not be written into")]
    assert len(missing) == int(is_full_still)


def test_a_broken_ledger_ends_the_sweep_at_once_unless_it_is_stopped(launch: Launch) -> None:
    launch.begin("a")
    launch.ledger._db.execute("DROP TABLE attempts")
    with pytest.raises(LedgerError, match="no such table"):
        launch.end("a")
    launch.control.put(STOP)
    launch.end("a")


# --- ends of the sweep ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "reason"),
    [({"sweep_timeout_s": 30.0}, "sweep timeout 30 s"), ({"deadline": "30s"}, "deadline 30s")],
)
def test_the_sweep_ends_when_its_time_is_up_even_with_active_runs(
    path: Path, limit: dict[str, Any], reason: str
) -> None:
    with launched(path, **limit) as launch:
        launch.begin("a")
        assert launch.count.due_at == 30.0
        launch.tick(29.9)
        assert launch.last.ends is None
        launch.tick(30.0)
        assert launch.last.ends == SweepEnd(reason, ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT)
        assert launch.count.due_at is None


def test_an_end_that_the_count_has_not_decided_is_logged(launch: Launch) -> None:
    launch.count.conclude(SweepEnd("all workers gave up: SIGSEGV", ExitCode.FAILURE_POLICY))
    assert launch.kinds() == ["joined", "stopped", "left"]


def test_an_end_that_the_count_has_decided_is_logged_once(path: Path) -> None:
    with launched(path, count=1) as launch:
        launch.begin("a")
        launch.end("a")
        assert launch.last.ends is not None
        launch.count.conclude(launch.last.ends)
        assert launch.kinds() == ["joined", "started", "ended", "complete", "left"]


def test_starts_and_ends_of_one_turn_are_written_in_one_append(launch: Launch) -> None:
    assert launch.begin("a")
    appends = launch.ledger.appends
    launch.count.end(end("a"))
    for run in ("b", "c"):
        launch.count.ask(start(run), IDLE)
    assert launch.answers() == [StartGranted(Slot(0), RunId("b")), StartGranted(Slot(0), RunId("c"))]
    assert launch.ledger.appends == appends + 1
    assert launch.kinds()[-3:] == ["ended", "started", "started"]


# --- workers and devices -------------------------------------------------------------------


def test_workers_and_quarantines_are_logged_with_the_next_exchange(launch: Launch, path: Path) -> None:
    launch.now = 5.0
    launch.count.spawn(Slot(0), "GPU-0", again=False)
    launch.count.spawn(Slot(1), None, again=False)
    launch.count.spawn(Slot(0), "GPU-1", again=True)
    launch.count.quarantine("GPU-0", "ECC error")
    launch.count.publish(IDLE)
    launch.count.publish(IDLE)
    assert launch.kinds() == ["joined", "spawned", "spawned", "spawned", "quarantined"]
    workers = [(row.slot, row.device, row.restarts) for row in launch.ledger.workers()]
    assert workers == [(0, "GPU-1", 1), (1, None, 0)]
    (done,) = performed(path.parent)
    assert done.assigned == {0: "GPU-1", 1: None}
    marks = [(mark.at, mark.kind, mark.slot, mark.device, mark.reason) for mark in done.incidents]
    assert marks == [(5.0, RESTART, 0, "GPU-1", ""), (5.0, QUARANTINE, None, "GPU-0", "ECC error")]


def test_the_end_sent_to_a_pool_has_the_attempts_own_duration_and_consumption() -> None:
    run, used = OpenRun(RunId("a"), {}, 2, since=5.0, spent_s=3.0), Consumption(1.5, None, 0.25)
    end = AttemptEnd(outcome=Outcome.STOPPED, duration_s=4.0, resumable=True, consumption=used)
    told = end_of(RecordEnd(Slot(0), run, end, final=True, died=False))
    assert (told.duration_s, told.consumption) == (1.0, used)
    assert read(PooledEnd, as_json(told)) == told
