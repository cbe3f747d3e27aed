"""A ledger that can't be written for now, and a count that waits for it until a stop."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import pytest

from parallel_hpo.core.errors import LedgerError, NoRoomError
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.pool_messages import PoolEvent
from parallel_hpo.core.types import Outcome, RunId, Slot, StopKind
from parallel_hpo.count.state import Pool
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.count import CountEvent, LocalCount
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import StartGranted, StopAsked
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware
from tests.ledgers import record_attempt_end, record_start
from tests.server.pooling import end, start, stopped

STOP = StopAsked(StopKind.INTERRUPT, "SIGINT", 130)
SOON_S = 5.0


@pytest.fixture
def control() -> Iterator[Control]:
    with closing(Control()) as control:
        yield control


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        yield ledger


def begin(ledger: Ledger, run_id: str, text: str = "") -> None:
    record_start(ledger, RunId(run_id), parameters={"x": text}, attempt=1, slot=Slot(0), device=None)


def test_a_ledger_without_room_says_so_and_takes_the_same_record_later(ledger: Ledger) -> None:
    begin(ledger, "first")
    pages = limit_pages(ledger)
    with pytest.raises(NoRoomError, match="can't be written: database or disk is full; is there room"):
        begin(ledger, "second", "x" * 100_000)
    assert [row.run_id for row in ledger.runs()] == ["first"]
    limit_pages(ledger, pages + 1000)
    begin(ledger, "second", "x" * 100_000)
    assert [row.run_id for row in ledger.runs()] == ["first", "second"]


def limit_pages(ledger: Ledger, pages: int = 1) -> int:
    """Let the ledger's file grow to so many pages (1: no further); return how many it has."""
    (answer,) = ledger._db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    return int(answer)


@contextmanager
def held(ledger: Ledger, folder: Path) -> Iterator[None]:
    """A ledger that another program holds, so that it can't be written."""
    ledger._db.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_ledger_that_another_program_holds_is_without_room_too(ledger: Ledger, tmp_path: Path) -> None:
    with held(ledger, tmp_path), pytest.raises(NoRoomError, match="locked"):
        begin(ledger, "first")
    begin(ledger, "first")


def test_a_ledger_without_its_tables_is_no_matter_of_room(ledger: Ledger) -> None:
    ledger._db.execute("DROP TABLE attempts")
    with pytest.raises(LedgerError) as refused:
        record_attempt_end(ledger, RunId("r"), 1, AttemptEnd(outcome=Outcome.CRASHED))
    assert not isinstance(refused.value, NoRoomError)


# --- the count ----------------------------------------------------------------------------


@dataclass
class Counted:
    """A count on this machine, which wants all runs that it may have."""

    ledger: Ledger
    control: Control
    told: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        pool = Pool(
            is_local=False,
            count=9,
            node_timeout_s=inf,
            has_coordinator=False,
            opened_at=0.0,
            coordinator_seen_at=0.0,
        )
        self.count = LocalCount(
            self.ledger,
            pool,
            (),
            workers=2,
            now=lambda: 0.0,
            control=self.control,
            observer=self.told.append,
            retry_s=0.0,
        )
        self.publish()
        self.count.take()

    def publish(self) -> None:
        self.count.publish(PoolNeeds(wants=2))

    def ask(self, run_id: str) -> list[CountEvent]:
        self.count.ask(start(run_id), PoolNeeds(wants=2))
        self.publish()
        return self.answers()

    def end(self, run_id: str, outcome: Outcome = Outcome.FINISHED) -> None:
        self.count.end(end(run_id, outcome=outcome))
        self.publish()

    def answers(self) -> list[CountEvent]:
        """Return the answers about starts."""
        return [answer for answer in self.count.take() if isinstance(answer, StartGranted)]

    def flush(self, grace_s: float) -> None:
        waits = StopAware(self.control, grace_s=grace_s)
        waits.sweep_is_open()
        self.count.flush(waits)

    def words(self) -> list[tuple[str, bool]]:
        return [(each.text, each.warning) for each in self.told if isinstance(each, Message)]

    def outcomes(self) -> dict[str, Outcome | None]:
        return {row.run_id: row.outcome for row in self.ledger.runs()}


@pytest.fixture
def counted(ledger: Ledger, control: Control) -> Counted:
    return Counted(ledger, control)


def test_a_start_waits_for_room_with_one_message(counted: Counted, tmp_path: Path) -> None:
    with held(counted.ledger, tmp_path):
        counted.count.spawn(Slot(0), None, again=False)
        assert counted.ask("a") == []
        counted.count.tick()
        assert counted.answers() == []
    counted.count.tick()
    assert counted.answers() == [StartGranted(Slot(0), RunId("a"))]
    assert (counted.outcomes(), [row.slot for row in counted.ledger.workers()]) == ({"a": None}, [0])
    assert [is_warning for _, is_warning in counted.words()] == [True, False]
    assert "The sweep waits until it can be written" in counted.words()[0][0]


def test_a_run_whose_start_waits_for_room_does_not_begin_after_a_stop(
    counted: Counted, tmp_path: Path
) -> None:
    with held(counted.ledger, tmp_path):
        counted.ask("a")
        counted.control.put(STOP)
        counted.count.withdraw(stopped("a"))
        counted.publish()
    counted.flush(grace_s=SOON_S)
    assert (counted.answers(), counted.outcomes()) == ([], {})


def test_ends_that_could_not_be_written_after_a_stop_are_once_there_is_room(
    counted: Counted, tmp_path: Path
) -> None:
    for run_id in "ab":
        counted.ask(run_id)
    counted.control.put(STOP)
    with held(counted.ledger, tmp_path):
        for run_id in "ab":
            counted.end(run_id, Outcome.STOPPED)
    counted.flush(grace_s=SOON_S)
    assert counted.outcomes() == {"a": Outcome.STOPPED, "b": Outcome.STOPPED}
    assert all("could not be written" not in text for text, _ in counted.words())


def test_what_can_not_be_written_within_a_stops_time_is_said(counted: Counted, tmp_path: Path) -> None:
    counted.ask("a")
    counted.control.put(STOP)
    with held(counted.ledger, tmp_path):
        counted.end("a", Outcome.STOPPED)
        counted.flush(grace_s=0)
    ((text, is_warning),) = counted.words()
    assert is_warning
    assert text.startswith("1 record could not be written into the ledger")


def test_a_broken_ledger_ends_the_sweep_at_once_unless_it_is_stopped(counted: Counted) -> None:
    counted.ask("a")
    counted.ledger._db.execute("DROP TABLE attempts")
    with pytest.raises(LedgerError, match="no such table"):
        counted.end("a")
    counted.control.put(STOP)
    counted.end("a")


def start_run(ledger: Ledger, run_id: str) -> None:
    record_start(ledger, RunId(run_id), parameters={}, attempt=1, slot=Slot(0), device=None)


def test_a_ledger_of_no_length_beside_workers_is_no_new_one(tmp_path: Path) -> None:
    (tmp_path / "worker-0").mkdir()
    (tmp_path / "ledger.db").touch()
    with pytest.raises(LedgerError, match=r"ledger\.db is damaged: it is empty"):
        Ledger(tmp_path / "ledger.db")


def test_a_ledger_that_was_just_being_made_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert list(ledger.runs()) == []


@pytest.mark.parametrize("put_another", [False, True])
def test_a_ledger_that_is_removed_while_it_is_written_is_missed(tmp_path: Path, put_another: bool) -> None:
    path = tmp_path / "sweep" / "ledger.db"
    with Ledger(path) as ledger:
        start_run(ledger, "first")
        for file in path.parent.iterdir():
            file.unlink()
        if put_another:
            path.write_bytes(b"x")
        with pytest.raises(LedgerError, match=r"ledger\.db was removed or replaced while") as said:
            start_run(ledger, "second")
        assert not isinstance(said.value, NoRoomError), "it would be waited for"


def test_a_ledger_that_is_damaged_while_it_is_written_and_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        for number in range(100):
            start_run(ledger, f"run{number}")
        ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with Ledger(path) as ledger:
        ledger._db.execute("PRAGMA cache_size = 0")
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (len(content) - 4096))
        with pytest.raises(LedgerError, match=r"ledger\.db is damaged: database disk image is malformed"):
            ledger.append([PoolEvent(101, 0.0, None, "left", {"name": ""})], durable=False)
        with pytest.raises(LedgerError, match="can't be read: database disk image is malformed"):
            list(ledger.runs())
