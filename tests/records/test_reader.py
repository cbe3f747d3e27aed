"""Reading of a sweep's folder: workers, machines and devices, beside its owner, in any format."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.messages import UNKNOWN, AttemptEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import (
    LEDGER_FORMAT,
    LedgerReader,
    LedgerRun,
    MachineSummary,
    ledger_counts,
    open_reader,
    performed,
)
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import StartGranted, StartRefused
from parallel_hpo.session.resume import read_earlier
from parallel_hpo.session.signals import Control
from tests.cluster.pools import joined, left, over, started
from tests.ledgers import record_attempt_end, record_end, record_start
from tests.server.pool_requests import end, start
from tests.session.decide.plays import count_of

RUN = RunId("run1")


def test_attempts_are_read_with_their_ends_while_the_ledger_is_written(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.record_facts({"path": "local/p/sweep"})
        record_start(ledger, RUN, device="3")
        record_attempt_end(
            ledger, RUN, 1, AttemptEnd(outcome=Outcome.CRASHED, reason="SIGKILL", duration_s=2.0)
        )
        record_start(ledger, RUN, attempt=2, device="3")
        (share,) = performed(tmp_path)
    first, second = share.attempts
    assert (share.share, share.path, share.devices, share.slots) == ("", "local/p/sweep", {RUN: "3"}, [0])
    assert (first.attempt, first.outcome, first.reason) == (1, Outcome.CRASHED, "SIGKILL")
    assert first.ended_at == first.started_at + 2.0
    assert (second.attempt, second.outcome, second.ended_at) == (2, None, None)


def test_the_duration_of_a_last_attempt_excludes_earlier_attempts(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        record_start(ledger, RUN, device="3")
        record_attempt_end(ledger, RUN, 1, AttemptEnd(outcome=Outcome.CRASHED, duration_s=2.0))
        record_start(ledger, RUN, attempt=2)
        record_end(ledger, RUN, 2, AttemptEnd(outcome=Outcome.FINISHED, duration_s=5.0))
        (row,) = ledger.runs()
        (share,) = performed(tmp_path)
    assert ([attempt.duration_s for attempt in share.attempts], row.duration_s) == ([2.0, 3.0], 5.0)


def test_shares_are_read_in_order(tmp_path: Path) -> None:
    for name in ("share-2-of-2", "share-1-of-2"):
        with Ledger(tmp_path / name / "ledger.db") as ledger:
            record_start(ledger, RUN, device="3")
    assert [share.share for share in performed(tmp_path)] == ["share-1-of-2", "share-2-of-2"]


def test_a_ledger_without_the_table_of_marks_has_no_incidents(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        record_start(ledger, RUN, device="3")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.execute("DROP TABLE marks")
    (share,) = performed(tmp_path)
    assert (share.incidents, len(share.attempts)) == ((), 1)


def test_a_newer_or_damaged_ledger_is_an_error_and_a_missing_one_yields_nothing(tmp_path: Path) -> None:
    assert performed(tmp_path / "nothing") == []
    with Ledger(tmp_path / "ledger.db") as ledger:
        record_start(ledger, RUN, device="3")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.execute(f"PRAGMA user_version = {LEDGER_FORMAT + 1}")
    for read in (performed, ledger_counts):
        with pytest.raises(LedgerError, match=r"ledger\.db was written by a newer parallel_hpo"):
            read(tmp_path)
    (tmp_path / "ledger.db").write_bytes(b"no ledger" * 1000)
    with pytest.raises(LedgerError, match=r"ledger\.db can't be read"):
        performed(tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "s" / "ledger.db") as ledger:
        yield ledger


def test_a_machines_workers_keep_their_slots_when_it_rejoins(ledger: Ledger) -> None:
    ledger.append([joined(1, 1, "gpu1"), joined(2, 2, "gpu2")], durable=False)
    assert [ledger.slot_at(1, 0), ledger.slot_at(2, 0)] == [0, 1]
    ledger.append([left(3, 1, "gpu1", "SIGTERM"), joined(4, 3, "gpu1")], durable=False)
    assert [ledger.slot_at(3, 0), ledger.slot_at(3, 1)] == [0, 2]
    assert ledger.places() == {0: ("gpu1", 0), 1: ("gpu2", 0), 2: ("gpu1", 1)}


def test_runs_and_workers_know_their_machine_and_machines_their_attempts(ledger: Ledger) -> None:
    begun = [joined(1, 1, "gpu1", directory="/data"), joined(2, 2, "gpu2"), started(3, 1, "a")]
    gone = [over(4, 1, "a", Outcome.STOPPED, kind="handed_on"), left(5, 1, "gpu1", "not heard for 300 s")]
    ledger.append([*begun, *gone, started(6, 2, "a", attempt=2)], durable=False)
    assert [run.machine for run in ledger.runs()] == ["gpu2"]
    assert [worker.machine for worker in ledger.workers()] == ["gpu1", "gpu2"]
    assert ledger.machines() == [
        MachineSummary("gpu1", 0, 1, "not heard for 300 s", "/data/s/machine-gpu1-1"),
        MachineSummary("gpu2", 1, 1, ""),
    ]
    assert (ledger.machine(2), ledger.machine(3)) == ("gpu2", "")


def test_a_run_from_another_machine_has_the_number_of_its_last_attempt(ledger: Ledger) -> None:
    ledger.append([joined(1, 1, "gpu1"), started(2, 1, "a", attempt=3)], durable=False)
    assert [run.attempts for run in ledger.runs()] == [3]


def test_a_rejoined_machine_has_its_new_folder_and_no_departure(ledger: Ledger) -> None:
    before = [joined(1, 1, "gpu1", directory="/old"), left(2, 1, "gpu1", "SIGTERM")]
    ledger.append([*before, joined(3, 2, "gpu1", directory="/new")], durable=False)
    assert ledger.machines() == [MachineSummary("gpu1", 0, 0, "", "/new/s/machine-gpu1-2")]


def test_events_are_appended_atomically(ledger: Ledger) -> None:
    ledger.append([joined(1, 1, "gpu1")], durable=False)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.append([started(2, 1, "a"), started(3, 1, "a")], durable=False)
    assert (list(ledger.runs()), ledger.workers(), ledger.places()) == ([], [], {})
    assert ledger.last_event() == (1, 1)
    ledger.append([started(2, 1, "b")], durable=False)
    assert [(run.run_id, run.machine) for run in ledger.runs()] == [("b", "gpu1")]
    assert [worker.device for worker in ledger.workers()] == ["GPU-1"]


def test_workers_are_named_by_their_machine_and_times_are_the_pools(ledger: Ledger, tmp_path: Path) -> None:
    machines = [joined(1, 1, "gpu1"), joined(2, 2, "gpu2")]
    runs = [started(3, 1, "a"), started(4, 2, "b"), started(5, 2, "a", attempt=2)]
    ledger.append([*machines, *runs], durable=False)
    (found,) = performed(tmp_path / "s")
    assert [found.name_of(slot) for slot in found.slots] == ["gpu1 worker 0", "gpu2 worker 0"]
    assert [found.machine_of(slot) for slot in found.slots] == ["gpu1", "gpu2"]
    assert [attempt.started_at for attempt in found.attempts] == [103.0, 104.0, 105.0]


WRITTEN: Final = (Path(__file__).parent / "ledger-3.sql").read_text()
NEEDS: Final = PoolNeeds(wants=2, wants_again=2)
ADDED: Final = {1: ("machines", "places"), 2: ("seeds",), 3: ("consumption",)}
"""Tables that the next format after each one added."""
FINISHED, FAILED, RETRIED, THIRD, FOURTH = map(
    RunId, ("s9df1bvr", "vb84bbcw", "qergxjm4", "z2zo28l8", "du5cvf0y")
)


@pytest.fixture(params=[0, 1, 2, 3])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    later = [table for number, tables in ADDED.items() if number > request.param for table in tables]
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.executescript(WRITTEN)
        for table in later:
            db.execute(f"DROP TABLE {table}")
        db.execute(f"PRAGMA user_version = {request.param}")
        db.commit()
    return tmp_path / "ledger.db"


def outcomes(ledger: LedgerReader) -> dict[RunId, Outcome | None]:
    return {row.run_id: row.outcome for row in ledger.runs()}


def test_the_runs_of_a_ledger_in_an_earlier_format_are_read(path: Path) -> None:
    with open_reader(path) as reader:
        assert outcomes(reader) == {
            FINISHED: Outcome.FINISHED,
            FAILED: Outcome.FAILED,
            RETRIED: Outcome.FINISHED,
            THIRD: None,
            FOURTH: None,
        }
        (retried,) = [row for row in reader.runs() if row.run_id == RETRIED]
        assert (retried.parameters, retried.value, retried.attempts, retried.deaths) == ({"x": 2}, 1.0, 2, 1)
        assert (retried.machine, retried.consumption, reader.machines()) == (None, UNKNOWN, [])
        assert [worker.restarts for worker in reader.workers()] == [1, 0]
    (count,), (done,) = ledger_counts(path.parent), performed(path.parent)
    assert (count.count, len(count.runs), count.consumption) == (6, 5, UNKNOWN)
    assert count.runs[RETRIED] == LedgerRun(2, is_over=True, spent_s=1.434, since=None)
    assert [attempt.duration_s for attempt in done.attempts if attempt.run_id == RETRIED] == [0.567, 0.867]
    assert [done.name_of(slot) for slot in done.slots] == ["worker 0", "worker 1"]


def test_a_sweep_with_a_ledger_in_an_earlier_format_continues_in_the_newest(path: Path) -> None:
    with Ledger(path) as ledger, closing(Control()) as control:
        earlier = read_earlier(ledger.runs())
        assert (earlier.started, list(earlier.ended)) == (5, [FINISHED, FAILED, RETRIED])
        assert [(run.run_id, run.attempt) for run in earlier.reruns] == [(THIRD, 2), (FOURTH, 2)]
        count = count_of(ledger, 6, now=lambda: 0.0, control=control)
        count.publish(NEEDS)
        runs = [(run.run_id, run.attempt) for run in earlier.reruns]
        for run_id, attempt in [*runs, ("sixth", 1)]:
            count.ask(start(run_id, attempt), NEEDS)
            count.publish(NEEDS)
            assert StartGranted(Slot(0), RunId(run_id)) in count.take()
            count.end(end(run_id, attempt))
        count.ask(start("seventh"), NEEDS)
        count.publish(NEEDS)
        assert [answer.run_id for answer in count.take() if isinstance(answer, StartRefused)] == ["seventh"]
        assert list(outcomes(ledger).values()).count(Outcome.FINISHED) == 5
    (done,) = performed(path.parent)
    assert len(done.attempts) == 9
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (LEDGER_FORMAT,)
