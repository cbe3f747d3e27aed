"""Ledgers of earlier formats are shown and resumed: those of a session that was killed within two runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.core.messages import UNKNOWN
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.count.policy import FailureLimits
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import (
    LEDGER_FORMAT,
    LedgerReader,
    LedgerRun,
    ledger_counts,
    open_reader,
    performed,
)
from parallel_hpo.session.count import LocalCount
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import StartGranted, StartRefused
from parallel_hpo.session.resume import ResumeState, counted_before, read_earlier, waiting_run
from parallel_hpo.session.signals import Control
from tests.server.pooling import end, start

WRITTEN: Final = (Path(__file__).parent / "ledger-3.sql").read_text()
NEEDS: Final = PoolNeeds(wants=2, wants_again=2)
ADDED: Final = {1: ("machines", "places"), 2: ("seeds",), 3: ("consumption",)}
"""Tables that each format has added."""
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


def test_the_runs_of_an_earlier_format_are_shown(path: Path) -> None:
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


def test_a_ledger_of_an_earlier_format_goes_on_in_the_newest(path: Path) -> None:
    with Ledger(path) as ledger, closing(Control()) as control:
        earlier = read_earlier(ledger.runs())
        assert (earlier.started, list(earlier.ended)) == (5, [FINISHED, FAILED, RETRIED])
        assert [(run.run_id, run.attempt) for run in earlier.reruns] == [(THIRD, 2), (FOURTH, 2)]
        count = count_of(ledger, earlier, control)
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


def count_of(ledger: Ledger, earlier: ResumeState, control: Control) -> LocalCount:
    """The count of the sweep's 6 runs, with what an earlier launch has done."""
    pool = counted_before(ledger, earlier, count=6, opened_at=0.0, limits=FailureLimits())
    count = LocalCount(
        ledger,
        pool,
        map(waiting_run, earlier.reruns),
        workers=2,
        now=lambda: 0.0,
        control=control,
        observer=lambda notice: None,
    )
    count.publish(NEEDS)
    return count
