"""What a ledger records, who owns it, and what happens where it is full, locked, damaged or removed."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.analysis.result import summarise
from parallel_hpo.core.errors import LedgerError, NoRoomError
from parallel_hpo.core.messages import UNKNOWN, AttemptEnd, Consumption
from parallel_hpo.core.pool_messages import PoolEvent
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import SCHEMA, Ledger
from parallel_hpo.records.reader import (
    LEDGER_FORMAT,
    LedgerRun,
    RunRow,
    WorkerSummary,
    ledger_counts,
    performed,
)
from parallel_hpo.session.resume import read_earlier
from tests.commands import start_python
from tests.ledgers import record_attempt_end, record_end, record_spawn, record_start
from tests.results import CLOSING

ROOT: Final = Path(__file__).parents[2]
RUN: Final = RunId("run1")
OPEN_ELSEWHERE: Final = """
import sys
from pathlib import Path
from parallel_hpo.core.errors import LedgerError
from parallel_hpo.records.ledger import Ledger
try:
    with Ledger(Path(sys.argv[1])):
        print("opened")
except LedgerError as error:
    print(error)
"""

WRITE_FOREVER: Final = """
import itertools, sys
from pathlib import Path
from parallel_hpo.records.ledger import Ledger
from tests.ledgers import record_start
ledger = Ledger(Path(sys.argv[1]))
for number in itertools.count():
    record_start(ledger, f"run{number}", parameters={"n": number}, slot=0)
    print(number, flush=True)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        yield ledger


def start(ledger: Ledger, run_id: str = RUN, text: str = "", *, attempt: int = 1, slot: int = 0) -> None:
    record_start(ledger, run_id, parameters={"x": text}, attempt=attempt, slot=slot)


def finish(ledger: Ledger, run_id: str = RUN, attempt: int | None = 1) -> None:
    record_end(
        ledger, RunId(run_id), attempt, AttemptEnd(outcome=Outcome.FINISHED, value=0.5, duration_s=2.0)
    )


def test_a_run_is_recorded_at_its_start_and_completed_at_its_end(ledger: Ledger) -> None:
    before = time.time()
    nested = {"model": {"layers": [1, 2], "name": "π", "bias": None}, "lr": 1e-05, "on": True}
    record_start(ledger, RUN, parameters=nested, slot=2, device="GPU-7")
    (begun,) = ledger.runs()
    assert before <= begun.started_at <= time.time()
    known = RunRow(RUN, nested, Slot(2), "GPU-7", 1, 0, None, "", None, None, resumable=False)
    assert replace(begun, started_at=0.0) == known
    end = AttemptEnd(
        outcome=Outcome.STOPPED, reason="interrupted", value=0.25, duration_s=3.5, resumable=True
    )
    record_end(ledger, RUN, 1, end)
    (ended,) = ledger.runs()
    how: dict[str, Any] = {"outcome": end.outcome, "reason": end.reason, "value": 0.25, "resumable": True}
    times = dict.fromkeys(("duration_s", "last_s", "spent_s"), 3.5)
    assert ended == replace(begun, **how | times)


def test_the_time_spent_by_attempts_survives_the_death_of_their_session(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.record_facts({"path": "local/p/s"})
        for attempt in (1, 2, 3):
            record_start(ledger, RUN, attempt=attempt)
            if attempt != 2:  # the session died in the second one
                crash = AttemptEnd(outcome=Outcome.CRASHED, duration_s=2.0 * attempt)
                record_attempt_end(ledger, RUN, attempt, crash)
        (rerun,) = read_earlier(ledger.runs()).reruns
    assert (rerun.attempt, rerun.spent_s) == (4, 8.0)
    assert ledger_counts(tmp_path)[0].runs == {RUN: LedgerRun(3, is_over=False, spent_s=8.0, since=None)}


def test_consumption_is_summed_over_a_runs_attempts_and_a_sweeps_runs(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        start(ledger)
        record_attempt_end(
            ledger, RUN, 1, AttemptEnd(outcome=Outcome.CRASHED, consumption=Consumption(1.0, 0.5))
        )
    with Ledger(path) as ledger:  # by another launch, which continues the sweep
        start(ledger, attempt=2)
        record_end(
            ledger, RUN, 2, AttemptEnd(outcome=Outcome.FINISHED, consumption=Consumption(2.0, None, 0.25))
        )
        start(ledger, "run2")
        record_end(ledger, RunId("run2"), 1, AttemptEnd(outcome=Outcome.FAILED))
        both = Consumption(3.0, 0.5, 0.25)
        assert [row.consumption for row in ledger.runs()] == [both, UNKNOWN]
        (tally,), (share,) = ledger_counts(tmp_path), performed(tmp_path)
        assert tally.consumption == both
        assert [each.consumption.device_hours for each in share.attempts] == [1.0, 2.0, None]
        result = summarise(ledger.runs(), (), CLOSING)
    assert json.loads(result.to_json())["consumption"] == asdict(both)
    assert [run.consumption for run in result.runs] == [both, UNKNOWN]


def test_a_run_that_is_run_again_keeps_its_position_and_start_and_has_no_outcome(ledger: Ledger) -> None:
    for run_id in "zam":
        start(ledger, run_id)
    began = [row.started_at for row in ledger.runs()]
    stop = AttemptEnd(outcome=Outcome.STOPPED, reason="drain", duration_s=1.0, resumable=True)
    record_end(ledger, RunId("z"), 1, stop)
    start(ledger, "z", attempt=2, slot=1)
    row, *_ = ledger.runs()
    assert (row.outcome, row.reason, row.resumable) == (None, "", False)
    assert (row.attempts, row.slot) == (2, 1)
    assert [(row.run_id, row.started_at) for row in ledger.runs()] == list(zip("zam", began, strict=True))


def test_an_attempts_end_does_not_end_its_run_and_a_run_can_end_without_an_attempt(ledger: Ledger) -> None:
    start(ledger)
    record_attempt_end(ledger, RUN, 1, AttemptEnd(outcome=Outcome.CRASHED, reason="SIGKILL", duration_s=1.0))
    assert [(row.outcome, row.deaths) for row in ledger.runs()] == [(None, 1)]
    finish(ledger, attempt=None)
    assert [row.outcome for row in ledger.runs()] == [Outcome.FINISHED]


def test_restarts_and_runs_are_counted_by_slot(ledger: Ledger) -> None:
    start(ledger)
    for slot, again in ((1, False), (0, False), (1, True), (1, True)):
        record_spawn(ledger, Slot(slot), f"gpu{slot}", again=again)
    assert ledger.workers() == [
        WorkerSummary(Slot(0), "gpu0", 1, 0),
        WorkerSummary(Slot(1), "gpu1", 0, 2),
    ]


def test_a_reopened_ledger_has_all_records_and_the_latest_facts(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ledger.db"
    with Ledger(path) as ledger:
        ledger.record_facts({"count": 3, "url": "http://here"})
        ledger.record_facts({"count": None})
        record_spawn(ledger, Slot(0), None, again=True)
        start(ledger)
        finish(ledger)
        before = list(ledger.runs())
    with Ledger(path) as ledger:
        assert list(ledger.runs()) == before
        assert ledger.facts == {"count": None, "url": "http://here"}
        assert [worker.restarts for worker in ledger.workers()] == [1]


def test_a_changed_schema_needs_a_new_format_number() -> None:
    """Older programs check the number. Raise it, let `Ledger` migrate older ledgers, and note it here."""
    assert (LEDGER_FORMAT, sha256(SCHEMA.encode()).hexdigest()[:8]) == (4, "7ce4d9ea")


def test_other_users_cannot_read_a_ledger(ledger: Ledger, tmp_path: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0}, modes


def test_a_second_owner_is_refused_in_this_process_and_in_another(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    owned = f"another process ({os.getpid()}) runs this sweep; wait for it, or stop it"
    with Ledger(path):
        with pytest.raises(LedgerError, match=re.escape(owned)):
            Ledger(path)
        said = open_elsewhere(path)
    assert str(tmp_path) in said and owned in said
    assert open_elsewhere(path) == "opened"


def tear(path: Path) -> None:
    with Ledger(path) as ledger:
        for number in range(200):
            start(ledger, f"run{number}")
    os.truncate(path, path.stat().st_size // 2)


def make_newer(path: Path) -> None:
    with Ledger(path), closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {LEDGER_FORMAT + 1}")


NO_LEDGER: Final = r"ledger\.db: .*is it a ledger"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b"not a database at all\n" * 50), NO_LEDGER),
        (lambda path: path.write_bytes(os.urandom(8192)), NO_LEDGER),
        (tear, NO_LEDGER),
        (make_newer, r"ledger\.db was written by a newer parallel_hpo"),
    ],
    ids=["text", "noise", "torn", "newer"],
)
def test_an_invalid_or_newer_ledger_is_refused_and_left_unchanged(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "ledger.db"
    spoil(path)
    content = path.read_bytes()
    for _ in range(2):
        with pytest.raises(LedgerError, match=words):
            Ledger(path)
    assert path.read_bytes() == content


def test_a_killed_writer_loses_no_announced_record(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    writer = start_python("-c", WRITE_FOREVER, str(path), folder=ROOT, environment=os.environ)
    announced = [json.loads(writer.stdout.readline()) for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    announced += [json.loads(line) for line in writer.communicate()[0].splitlines()]
    with Ledger(path) as ledger:
        kept = [row.parameters["n"] for row in ledger.runs()]
    assert kept[: len(announced)] == announced
    assert len(kept) <= len(announced) + 1


def open_elsewhere(path: Path) -> str:
    child = start_python("-c", OPEN_ELSEWHERE, str(path), folder=ROOT, environment=os.environ)
    return child.communicate(timeout=30)[0].strip()


def test_a_run_keeps_the_seed_of_its_first_start(ledger: Ledger) -> None:
    record_start(ledger, RUN, parameters={"x": 1}, seed=5)
    record_start(ledger, RUN, parameters={"x": 1}, attempt=2, seed=9)
    record_start(ledger, "run2", parameters={"x": 1})
    assert [row.seed for row in ledger.runs()] == [5, None]
    assert (ledger.begun_with({"x": 1}), ledger.begun_with({"x": 2})) == (2, 0)
    assert read_earlier(ledger.runs()).reruns[0].seed == 5


def test_a_full_ledger_raises_no_room_error_and_accepts_the_record_later(ledger: Ledger) -> None:
    start(ledger, "first")
    pages = limit_pages(ledger)
    with pytest.raises(NoRoomError, match="can't be written: database or disk is full; is there room"):
        start(ledger, "second", "x" * 100_000)
    assert [row.run_id for row in ledger.runs()] == ["first"]
    limit_pages(ledger, pages + 1000)
    start(ledger, "second", "x" * 100_000)
    assert [row.run_id for row in ledger.runs()] == ["first", "second"]


def limit_pages(ledger: Ledger, pages: int = 1) -> int:
    """Limit the ledger's file to this many pages (1: the present size); return the limit."""
    (answer,) = ledger._db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    return int(answer)


@contextmanager
def lock(ledger: Ledger, folder: Path) -> Iterator[None]:
    """Lock the ledger from another connection, so that it can't be written."""
    ledger._db.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_locked_ledger_raises_no_room_error(ledger: Ledger, tmp_path: Path) -> None:
    with lock(ledger, tmp_path), pytest.raises(NoRoomError, match="locked"):
        start(ledger, "first")
    start(ledger, "first")


def test_a_missing_table_is_a_ledger_error_but_no_no_room_error(ledger: Ledger) -> None:
    ledger._db.execute("DROP TABLE attempts")
    with pytest.raises(LedgerError) as refused:
        record_attempt_end(ledger, RunId("r"), 1, AttemptEnd(outcome=Outcome.CRASHED))
    assert not isinstance(refused.value, NoRoomError)


def test_an_empty_ledger_beside_a_workers_folder_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "worker-0").mkdir()
    (tmp_path / "ledger.db").touch()
    with pytest.raises(LedgerError, match=r"ledger\.db is damaged: it is empty"):
        Ledger(tmp_path / "ledger.db")


def test_an_empty_ledger_file_without_workers_is_a_new_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert list(ledger.runs()) == []


@pytest.mark.parametrize("put_another", [False, True])
def test_a_ledger_removed_or_replaced_while_open_is_an_error(tmp_path: Path, put_another: bool) -> None:
    path = tmp_path / "sweep" / "ledger.db"
    with Ledger(path) as ledger:
        start(ledger, "first")
        for file in path.parent.iterdir():
            file.unlink()
        if put_another:
            path.write_bytes(b"x")
        with pytest.raises(LedgerError, match=r"ledger\.db was removed or replaced while") as said:
            start(ledger, "second")
        assert not isinstance(said.value, NoRoomError), "it would be waited for"


def test_damage_of_an_open_ledger_is_reported_on_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        for number in range(100):
            start(ledger, f"run{number}")
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
