from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.analysis.result import SweepConclusion, summarise
from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.messages import UNKNOWN, AttemptEnd, Consumption
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
from tests.ledgers import record_attempt_end, record_end, record_spawn, record_start

ROOT: Final = Path(__file__).parents[2]
RUN: Final = RunId("run1")
CLOSING: Final = SweepConclusion(
    sweep_id="s", sweep_url="", backend="local", count=2, stop_reason="", exit_code=0, duration_s=1.0
)

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
from tests.ledgers import record_attempt_end, record_end, record_spawn, record_start
ledger = Ledger(Path(sys.argv[1]))
for number in itertools.count():
    record_start(ledger, f"run{number}", parameters={"n": number}, attempt=1, slot=0, device=None)
    print(number, flush=True)
"""


def start(ledger: Ledger, run_id: RunId = RUN, attempt: int = 1, slot: int = 0) -> None:
    record_start(ledger, run_id, parameters={"lr": 0.1}, attempt=attempt, slot=Slot(slot), device=None)


def finish(ledger: Ledger, run_id: RunId = RUN, attempt: int | None = 1) -> None:
    record_end(ledger, run_id, attempt, AttemptEnd(outcome=Outcome.FINISHED, value=0.5, duration_s=2.0))


def without_time(ledger: Ledger) -> list[RunRow]:
    return [replace(row, started_at=0.0) for row in ledger.runs()]


def test_a_run_has_begun_when_its_first_attempt_did(tmp_path: Path) -> None:
    before = time.time()
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
        (first,) = ledger.runs()
        start(ledger, attempt=2)
        (again,) = ledger.runs()
    assert before <= first.started_at == again.started_at


def test_a_started_run_is_known_and_has_no_outcome(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        record_start(ledger, RUN, parameters={"lr": 0.1}, attempt=1, slot=Slot(2), device="GPU-7")
        assert without_time(ledger) == [
            RunRow(RUN, {"lr": 0.1}, Slot(2), "GPU-7", 1, 0, None, "", None, None, resumable=False)
        ]


def test_an_ended_run_has_all_that_was_recorded_of_its_end(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
        record_end(
            ledger,
            RUN,
            1,
            AttemptEnd(
                outcome=Outcome.STOPPED, reason="interrupted", value=0.25, duration_s=3.5, resumable=True
            ),
        )
        assert without_time(ledger) == [
            RunRow(
                RUN,
                {"lr": 0.1},
                Slot(0),
                None,
                1,
                0,
                Outcome.STOPPED,
                "interrupted",
                0.25,
                3.5,
                resumable=True,
                last_s=3.5,
                spent_s=3.5,
            )
        ]


def test_the_time_of_attempts_outlives_the_death_of_their_session(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.record_facts({"path": "local/p/s"})
        for attempt in (1, 2, 3):
            record_start(ledger, RUN, parameters={}, attempt=attempt, slot=Slot(0), device=None)
            if attempt != 2:  # the session died in the second one
                crash = AttemptEnd(outcome=Outcome.CRASHED, duration_s=2.0 * attempt)
                record_attempt_end(ledger, RUN, attempt, crash)
        (rerun,) = read_earlier(ledger.runs()).reruns
    assert (rerun.attempt, rerun.spent_s) == (4, 8.0)
    assert ledger_counts(tmp_path)[0].runs == {RUN: LedgerRun(3, is_over=False, spent_s=8.0, since=None)}


def test_a_run_has_used_what_all_its_attempts_have_and_the_sweep_what_its_runs_have(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        start(ledger)
        record_attempt_end(
            ledger, RUN, 1, AttemptEnd(outcome=Outcome.CRASHED, consumption=Consumption(1.0, 0.5))
        )
    with Ledger(path) as ledger:  # by another launch, which goes on with it
        start(ledger, attempt=2)
        record_end(
            ledger, RUN, 2, AttemptEnd(outcome=Outcome.FINISHED, consumption=Consumption(2.0, None, 0.25))
        )
        start(ledger, RunId("run2"))
        record_end(ledger, RunId("run2"), 1, AttemptEnd(outcome=Outcome.FAILED))
        both = Consumption(3.0, 0.5, 0.25)
        assert [row.consumption for row in ledger.runs()] == [both, UNKNOWN]
        (tally,), (share,) = ledger_counts(tmp_path), performed(tmp_path)
        assert tally.consumption == both
        assert [each.consumption.device_hours for each in share.attempts] == [1.0, 2.0, None]
        result = summarise(ledger.runs(), (), CLOSING)
    assert json.loads(result.to_json())["consumption"] == asdict(both)
    assert [run.consumption for run in result.runs] == [both, UNKNOWN]


def test_runs_are_in_the_order_of_their_first_start(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        for run_id in ("z", "a", "m"):
            start(ledger, RunId(run_id))
        start(ledger, RunId("z"), attempt=2)
        assert [row.run_id for row in ledger.runs()] == ["z", "a", "m"]


def test_nested_parameters_come_back_as_they_were(tmp_path: Path) -> None:
    nested = {"model": {"layers": [1, 2], "name": "π", "bias": None}, "lr": 1e-05, "on": True}
    with Ledger(tmp_path / "ledger.db") as ledger:
        record_start(ledger, RUN, parameters=nested, attempt=1, slot=Slot(0), device=None)
        assert [row.parameters for row in ledger.runs()] == [nested]


def test_a_run_that_is_run_again_has_no_outcome_and_one_attempt_more(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
        record_end(
            ledger,
            RUN,
            1,
            AttemptEnd(outcome=Outcome.STOPPED, reason="drain", duration_s=1.0, resumable=True),
        )
        start(ledger, attempt=2, slot=1)
        (row,) = ledger.runs()
        assert (row.outcome, row.reason, row.resumable) == (None, "", False)
        assert (row.attempts, row.slot) == (2, 1)


def test_the_end_of_an_attempt_does_not_end_its_run(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
        record_attempt_end(
            ledger, RUN, 1, AttemptEnd(outcome=Outcome.CRASHED, reason="SIGKILL", duration_s=1.0)
        )
        (row,) = ledger.runs()
        assert row.outcome is None
        assert row.deaths == 1


def test_a_run_can_end_without_an_attempt_under_way(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
        finish(ledger, attempt=None)
        (row,) = ledger.runs()
        assert row.outcome is Outcome.FINISHED


def test_an_attempt_cannot_start_twice(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
        with pytest.raises(sqlite3.IntegrityError):
            start(ledger, slot=5)
        (row,) = ledger.runs()
        assert row.slot == 0, "half of a refused record was kept"


def test_restarts_and_runs_are_counted_by_slot(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        start(ledger)
        for slot, again in ((1, False), (0, False), (1, True), (1, True)):
            record_spawn(ledger, Slot(slot), f"gpu{slot}", again=again)
        assert ledger.workers() == [
            WorkerSummary(Slot(0), "gpu0", 1, 0),
            WorkerSummary(Slot(1), "gpu1", 0, 2),
        ]


def test_a_newer_fact_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.record_facts({"count": 10, "url": "http://here"})
        ledger.record_facts({"count": None})
        assert ledger.facts == {"count": None, "url": "http://here"}


def test_all_survives_reopening(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ledger.db"
    with Ledger(path) as ledger:
        ledger.record_facts({"count": 3})
        record_spawn(ledger, Slot(0), None, again=True)
        start(ledger)
        finish(ledger)
        before = list(ledger.runs())
    with Ledger(path) as ledger:
        assert list(ledger.runs()) == before
        assert ledger.facts == {"count": 3}
        assert [worker.restarts for worker in ledger.workers()] == [1]


def test_a_ledger_of_a_newer_version_stays_without_an_owner(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {LEDGER_FORMAT + 1}")
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"ledger\.db was written by a newer parallel_hpo"):
            Ledger(path)


def test_another_schema_has_another_format() -> None:
    """An older program goes by the number: raise it, let `Ledger` bring older ones up to it, note it here."""
    assert (LEDGER_FORMAT, sha256(SCHEMA.encode()).hexdigest()[:8]) == (4, "7ce4d9ea")


def test_other_users_may_not_read_it(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db"):
        modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0}, modes


def test_a_second_owner_in_the_same_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    refused = pytest.raises(LedgerError, match=rf"another process \({os.getpid()}\) runs this")
    with Ledger(path), refused:
        Ledger(path)
    with Ledger(path):
        pass


def test_a_second_owner_in_another_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path):
        said = open_elsewhere(path)
    assert str(tmp_path) in said
    assert f"another process ({os.getpid()}) runs this sweep; wait for it, or stop it" in said
    assert open_elsewhere(path) == "opened"


@pytest.mark.parametrize(
    "content", [b"not a database at all\n" * 50, os.urandom(8192)], ids=["text", "noise"]
)
def test_a_file_that_is_no_ledger_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger\.db: .*is it a ledger"):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_torn_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        for number in range(200):
            start(ledger, RunId(f"run{number}"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(LedgerError, match=r"ledger\.db: .*is it a ledger"):
        Ledger(path)


def test_a_refused_file_stays_without_an_owner(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("garbage" * 100)
    for _ in range(2):
        with pytest.raises(LedgerError, match="is it a ledger"):
            Ledger(path)


def test_a_writer_that_is_killed_leaves_every_record_that_it_had_announced(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    writer = run_python(WRITE_FOREVER, path)
    assert writer.stdout is not None
    announced = [json.loads(writer.stdout.readline()) for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    announced += [json.loads(line) for line in writer.communicate()[0].splitlines()]
    with Ledger(path) as ledger:
        kept = [row.parameters["n"] for row in ledger.runs()]
    assert kept[: len(announced)] == announced
    assert len(kept) <= len(announced) + 1


def open_elsewhere(path: Path) -> str:
    child = run_python(OPEN_ELSEWHERE, path)
    return str(child.communicate(timeout=30)[0]).strip()


def run_python(source: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", source, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_runs_seed_stays_what_it_was_at_its_first_start(tmp_path: Path) -> None:
    place: dict[str, Any] = {"parameters": {"x": 1}, "slot": Slot(0), "device": None}
    with Ledger(tmp_path / "ledger.db") as ledger:
        record_start(ledger, RUN, attempt=1, seed=5, **place)
        record_start(ledger, RUN, attempt=2, seed=9, **place)
        record_start(ledger, RunId("run2"), attempt=1, **place)
        assert [row.seed for row in ledger.runs()] == [5, None]
        assert ledger.begun_with({"x": 1}) == 2
        assert ledger.begun_with({"x": 2}) == 0
        assert read_earlier(ledger.runs()).reruns[0].seed == 5
