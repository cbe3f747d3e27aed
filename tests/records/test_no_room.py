"""A ledger that can't be written for now, and a stop that is waited for meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from parallel_hpo.core.errors import LedgerError, NoRoomError
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.types import Outcome, RunId, Slot, StopKind
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.ledger_views import performed
from parallel_hpo.session.decide.events import RecordEnd, RecordStart, StopAsked
from parallel_hpo.session.decide.state import OpenRun
from parallel_hpo.session.recorder import Recorder, UnrecordedError
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware

STOP = StopAsked(StopKind.INTERRUPT, "SIGINT", 130)
SOON_S = 5.0


@pytest.fixture
def control() -> Iterator[Control]:
    with closing(Control()) as control:
        yield control


def start(ledger: Ledger, run_id: str, text: str = "") -> None:
    ledger.record_start(RunId(run_id), parameters={"x": text}, attempt=1, slot=Slot(0), device=None)


def test_a_ledger_without_room_says_so_and_takes_the_same_record_later(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger, "first")
        pages = limit_pages(ledger)
        with pytest.raises(NoRoomError, match="can't be written: database or disk is full; is there room"):
            start(ledger, "second", "x" * 100_000)
        assert [row.run_id for row in ledger.runs()] == ["first"]
        limit_pages(ledger, pages + 1000)
        start(ledger, "second", "x" * 100_000)
        assert [row.run_id for row in ledger.runs()] == ["first", "second"]


def limit_pages(ledger: Ledger, pages: int = 1) -> int:
    """Let the ledger's file grow to so many pages (1: no further); return how many it has."""
    (answer,) = ledger._db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    return int(answer)


def test_a_ledger_that_another_program_holds_is_without_room_too(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger._db.execute("PRAGMA busy_timeout = 10")
        with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(NoRoomError, match="locked"):
                start(ledger, "first")
        start(ledger, "first")


def test_a_ledger_without_its_tables_is_no_matter_of_room(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger._db.execute("DROP TABLE attempts")
        with pytest.raises(LedgerError) as refused:
            ledger.record_attempt_end(RunId("r"), 1, AttemptEnd(outcome=Outcome.CRASHED))
        assert not isinstance(refused.value, NoRoomError)


def test_a_wait_ends_without_a_stop_when_its_time_is_over_or_something_else_rings(control: Control) -> None:
    assert not control.wait_for_stop(0.01)
    control.ring()
    assert not control.wait_for_stop(SOON_S)


def test_a_stop_ends_the_wait_and_stays_to_be_taken(control: Control) -> None:
    timer = threading.Timer(0.05, control.put, [STOP])
    timer.start()
    assert control.wait_for_stop(SOON_S)
    timer.join()
    assert control.wait_for_stop(SOON_S)
    assert control.take() == [STOP]


def test_a_record_waits_for_room_and_tells_so_once(tmp_path: Path, control: Control) -> None:
    told: list[Notice] = []
    with Ledger(tmp_path / "ledger.db") as ledger:
        recorder = Recorder(ledger, control=control, observer=told.append, retry_s=0.02)
        ledger._db.execute("PRAGMA busy_timeout = 1")
        with closing(
            sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            timer = threading.Timer(0.2, other.rollback)
            timer.start()
            recorder.spawn(Slot(0), None, again=False)
            timer.join()
        assert [row.slot for row in ledger.workers()] == [0]
    assert [isinstance(notice, Message) and notice.warning for notice in told] == [True, False]


@pytest.mark.parametrize(("busy_timeout_ms", "held_s"), [(1, 0.1), (5000, 0.8)])
def test_a_start_says_whether_its_record_had_to_wait(
    tmp_path: Path, control: Control, busy_timeout_ms: int, held_s: float
) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        recorder = Recorder(ledger, control=control, observer=lambda notice: None, retry_s=0.02)
        assert not recorder.start(starting("a"), None)
        ledger._db.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        with closing(
            sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            timer = threading.Timer(held_s, other.rollback)
            timer.start()
            assert recorder.start(starting("b"), None)
            timer.join()


@contextmanager
def held(ledger: Ledger, folder: Path) -> Iterator[None]:
    """A ledger that another program holds, so that it can't be written."""
    ledger._db.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def starting(run_id: str) -> RecordStart:
    return RecordStart(Slot(0), OpenRun(RunId(run_id), {}, 1, since=0.0))


def ended(run_id: str) -> RecordEnd:
    run = OpenRun(RunId(run_id), {}, 1, since=0.0)
    return RecordEnd(
        Slot(0),
        run,
        AttemptEnd(outcome=Outcome.STOPPED, reason="SIGINT", duration_s=1.0),
        final=True,
        died=True,
    )


def test_an_attempts_end_has_no_part_of_what_earlier_ones_took(tmp_path: Path, control: Control) -> None:
    run = OpenRun(RunId("a"), {}, attempt=2, since=0.0, spent_s=3.0)
    with Ledger(tmp_path / "ledger.db") as ledger:
        recorder = Recorder(ledger, control=control, observer=lambda notice: None)
        recorder.start(RecordStart(Slot(0), run), None)
        recorder.end(
            RecordEnd(
                Slot(0), run, AttemptEnd(outcome=Outcome.FINISHED, duration_s=5.0), final=True, died=False
            )
        )
        (row,) = ledger.runs()
        (share,) = performed(tmp_path)
    assert (share.attempts[0].duration_s, row.duration_s) == (2.0, 5.0)


def test_a_run_whose_start_waits_for_room_does_not_begin_after_a_stop(
    tmp_path: Path, control: Control
) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        recorder = Recorder(ledger, control=control, observer=lambda notice: None, retry_s=SOON_S)
        with held(ledger, tmp_path):
            control.put(STOP)
            with pytest.raises(UnrecordedError):
                recorder.start(starting("a"), None)
        recorder.flush(StopAware(control, grace_s=0))
        assert list(ledger.runs()) == []
    assert control.take() == [STOP]


def test_ends_that_could_not_be_written_after_a_stop_are_once_there_is_room(
    tmp_path: Path, control: Control
) -> None:
    told: list[Notice] = []
    with Ledger(tmp_path / "ledger.db") as ledger:
        recorder = Recorder(ledger, control=control, observer=told.append, retry_s=0.02)
        for run_id in "ab":
            recorder.start(starting(run_id), None)
        control.put(STOP)
        control.take()
        with held(ledger, tmp_path):
            recorder.end(ended("a"))
            recorder.end(ended("b"))
        recorder.flush(StopAware(control, grace_s=SOON_S))
        assert [row.outcome for row in ledger.runs()] == [Outcome.STOPPED] * 2
    assert told == []


def test_what_can_not_be_written_within_a_stops_time_is_said(tmp_path: Path, control: Control) -> None:
    told: list[Notice] = []
    with Ledger(tmp_path / "ledger.db") as ledger:
        recorder = Recorder(ledger, control=control, observer=told.append, retry_s=0.02)
        recorder.start(starting("a"), None)
        control.put(STOP)
        with held(ledger, tmp_path):
            recorder.end(ended("a"))
            recorder.flush(StopAware(control, grace_s=0))
    (notice,) = told
    assert isinstance(notice, Message)
    assert notice.text.startswith("1 record could not be written into the ledger")
