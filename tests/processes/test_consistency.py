"""The check at the end of process tests, on ledgers and servers that were written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import create_engine, insert

from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.server.store import tables
from tests.ledgers import record_end, record_start
from tests.processes.consistency import Counted, Told, agree, disagreements

GRID: Final = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": [0, 1, 2]}}}
CRASHED: Final = ((1, "crashed"), (2, "crashed"))


def counted(outcome: Outcome | None, reason: str = "", *, resumable: bool = False) -> Counted:
    return Counted("run", {}, outcome, reason, resumable, CRASHED)


@pytest.mark.parametrize(
    ("run", "state", "exit_code", "agreed"),
    [
        (counted(Outcome.FINISHED), "finished", 0, True),
        (counted(Outcome.FINISHED), "running", None, False),
        (counted(Outcome.FAILED, "ValueError"), "failed", 1, True),
        (counted(Outcome.FAILED, "KeyboardInterrupt"), "killed", 255, True),
        (counted(Outcome.FAILED, "run timeout 2 s; killed"), "killed", None, True),
        (counted(Outcome.FAILED, "ValueError"), "killed", None, False),
        (counted(Outcome.CRASHED, "SIGKILL"), "crashed", None, True),
        (counted(Outcome.CRASHED, "SIGKILL"), "finished", 0, True),
        (counted(Outcome.CRASHED, "SIGKILL"), "running", None, False),
        (counted(Outcome.STOPPED), "killed", 255, True),
        (counted(Outcome.STOPPED), "preempted", 255, True),
        (counted(Outcome.STOPPED), "finished", 0, False),
        (counted(Outcome.STOPPED, resumable=True), "running", None, True),
        (counted(None), "pending", None, True),
    ],
)
def test_an_outcome_agrees_with_certain_states_on_the_server(
    run: Counted, state: str, exit_code: int | None, agreed: bool
) -> None:
    assert agree(run, Told({}, state, exit_code)) is agreed


class Written:
    """A directory with one sweep of three points, which was performed to its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ledger = Ledger(directory / "sweep" / "ledger.db")
        self._engine = create_engine(f"sqlite:///{directory / 'server.db'}")
        tables.metadata.create_all(self._engine)
        self._ledger.record_facts({"backend": "local", "count": None})
        times = dict.fromkeys(("created_at", "updated_at", "heartbeat_at"), 0.0)
        sweep = {"id": "sweep", "project_id": 1, "state": "FINISHED", "config": json.dumps(GRID)}
        sweep |= {"method": "grid", "seed": 1, "issued": 3, "revision": 1}
        with self._engine.begin() as server:
            project = {"id": 1, "entity": "e", "name": "p", "created_at": 0.0}
            server.execute(insert(tables.projects).values(project))
            server.execute(insert(tables.sweeps).values(sweep | times))

    def count(self, name: str, x: int, *attempts: Outcome, value: float | None = None) -> None:
        """Write a run into the ledger; it has finished unless `attempts` are given."""
        run = RunId(name)
        for number, outcome in enumerate(attempts or (Outcome.FINISHED,), start=1):
            record_start(self._ledger, run, parameters={"x": x}, attempt=number, slot=Slot(0), device=None)
            record_end(self._ledger, run, number, AttemptEnd(outcome=outcome, value=value, duration_s=1.0))

    def tell(self, name: str, x: int, **columns: Any) -> None:
        """Write a run into the server's database."""
        row: dict[str, Any] = {
            "project_id": 1, "name": name, "sweep_id": "sweep", "sweep_index": x, "state": "finished",
            "assigned": json.dumps({"x": x}), "waiting": False, "deliveries": 1, "sweep_revision": 1,
            "stop_requested": False, "exitcode": 0, "created_at": 0.0, "heard_at": 0.0,
            "history_lines": 0, "event_lines": 0, "log_lines": 0,
        }  # fmt: skip
        texts = dict.fromkeys(("tags", "config", "summary", "system_metrics", "history_keys"), "")
        with self._engine.begin() as server:
            server.execute(insert(tables.runs).values({**texts, **row, **columns}))

    def faults(self) -> list[str]:
        """Complete the sweep; return its disagreements."""
        with self._ledger as ledger:
            known = [(run.run_id, run.outcome, run.attempts) for run in ledger.runs()]
        self._engine.dispose()
        runs = [dict(zip(("run_id", "outcome", "attempts"), run, strict=True)) for run in known]
        (self.directory / "sweep" / "summary.json").write_text(json.dumps({"exit_code": 0, "runs": runs}))
        return [words.removeprefix("sweep sweep: ") for words in disagreements(self.directory)]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """With two of the three runs, which agree."""
    made = Written(tmp_path)
    for x in (0, 2):
        made.count(f"r{x}", x)
        made.tell(f"r{x}", x)
    return made


def test_a_complete_sweep_has_no_disagreements_even_if_only_one_side_has_a_value(written: Written) -> None:
    written.count("r1", 1)
    written.tell("r1", 1, value=0.5)
    assert written.faults() == []


def test_a_different_value_is_reported(written: Written) -> None:
    written.count("r1", 1, value=0.5)
    written.tell("r1", 1, value=0.25)
    assert written.faults() == ["run r1 has the value 0.5, and 0.25 on the server"]


def test_too_many_attempts_and_an_attempt_after_the_end_are_reported(written: Written) -> None:
    written.count("r1", 1, Outcome.CRASHED, Outcome.CRASHED, Outcome.FINISHED, Outcome.FINISHED)
    written.tell("r1", 1)
    too_many, again = written.faults()
    assert too_many.startswith("run r1 had ")
    assert again.startswith("run r1 was run again after it had finished")


def test_grid_points_that_ran_twice_or_never_are_reported(written: Written) -> None:
    written.count("other", 2)
    written.tell("other", 2)
    assert written.faults() == [
        "point 2 of the grid was run 2 times",
        "1 of 3 points of the grid were never run; not run: [1]",
    ]


def test_runs_known_to_only_one_side_are_reported(written: Written) -> None:
    written.count("counted", 1)
    written.tell("told", 1)
    written.tell("waiting", 1, state="pending", exitcode=None)
    written.tell("withdrawn", 1, state="killed", exitcode=None)
    assert written.faults()[:2] == [
        "run counted is finished in the ledger, and not on the server",
        "run told is finished on the server, and not in the ledger",
    ]
