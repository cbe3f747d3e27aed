"""Who performed what, as a server tells it: of what it saw itself, and by the ledgers beside its database.

What ledgers say becomes lanes, bars and marks.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core.messages import AttemptEnd, Consumption
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import QUARANTINE, RESTART, Attempt, Incident, LedgerRun, PerformedRuns
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.pages.run_data import FACTS, attempts_of, run_data
from parallel_hpo.server.pages.sweep_data import RunTable, Sweeps, sweep_at
from parallel_hpo.server.pages.timeline import lanes_of, timeline
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store.run_table import RunScope
from parallel_hpo.server.store.runs import RunPath
from tests.ledgers import record_attempt_end, record_end, record_start
from tests.server.acting import Services, grid

ONE, TWO = RunId("one"), RunId("two")


def at(sweep: str) -> SweepAt:
    return SweepAt("local", "p", sweep)


def test_a_worker_is_one_lane_and_only_another_process_in_its_slot_is_a_restart(services: Services) -> None:
    sweep = services.sweep(grid(3))
    for label in ("mark_0_1", "mark_0_1", "mark_1_2", "mark_0_3"):
        services.agent(sweep, label)
        services.clock.now += 10
    told = timeline(services.world, at(sweep))
    assert [(lane["machine"], lane["name"]) for lane in told["lanes"]] == [
        ("host", "worker 0"),
        ("host", "worker 1"),
    ]
    (mark,) = told["marks"]
    assert (mark["lane"], mark["kind"]) == (0, "restart")


@pytest.mark.parametrize("path", ["local/p/{sweep}", "local/elsewhere/{sweep}"])
def test_a_ledger_of_the_sweep_beside_the_database_is_heeded_and_no_others(
    services: Services, tmp_path: Path, path: str
) -> None:
    sweep = services.sweep(grid(3))
    run = services.issued(services.agent(sweep, "mark_0_1"))
    with Ledger(tmp_path / "sweeps" / sweep / "ledger.db") as ledger:
        ledger.record_facts({"path": path.format(sweep=sweep)})
        record_start(ledger, RunId(run), parameters={}, attempt=1, slot=Slot(0), device="GPU 3")
    told = timeline(replace(services.world, sweeps_in=tmp_path / "sweeps"), at(sweep))
    is_its_own = path.startswith("local/p/")
    assert [lane["device"] for lane in told["lanes"]] == (["GPU 3"] if is_its_own else [None])
    assert [(bar["run"], bar["end"]) for bar in told["bars"]] == ([(run, None)] if is_its_own else [])


def test_a_damaged_ledger_is_passed_over(services: Services, tmp_path: Path) -> None:
    sweep = services.sweep(grid(3))
    services.agent(sweep, "mark_0_1")
    (tmp_path / sweep).mkdir()
    (tmp_path / sweep / "ledger.db").write_bytes(b"no ledger" * 1000)
    told = timeline(replace(services.world, sweeps_in=tmp_path), at(sweep))
    assert [lane["name"] for lane in told["lanes"]] == ["worker 0"]


def test_the_count_and_further_attempts_are_those_of_the_ledger(services: Services, tmp_path: Path) -> None:
    sweep = services.sweep(grid(9))
    run = services.perform(sweep, services.agent(sweep))
    with Ledger(tmp_path / sweep / "ledger.db") as ledger:
        ledger.record_facts({"path": f"local/p/{sweep}", "count": 4})
        for attempt in (1, 2):
            record_start(ledger, RunId(run), parameters={}, attempt=attempt, slot=Slot(0), device=None)
        record_attempt_end(
            ledger, RunId(run), 1, AttemptEnd(outcome=Outcome.CRASHED, consumption=Consumption(1.5, 0.25))
        )
    known = replace(services.world, sweeps_in=tmp_path)
    told = json.loads(Sweeps(0.0).sweep_json(known, at(sweep), ""))
    assert (told["sweep"]["count"], told["runs"]["attempts"]) == (4, [2])
    assert told["sweep"]["used"] == "1.5 device hours, 0.25 kWh of devices"
    assert [each["used"] for each in attempts_of(known, at(sweep), run)] == [told["sweep"]["used"], ""]
    told = json.loads(Sweeps(0.0).sweep_json(services.world, at(sweep), ""))
    assert (told["sweep"]["count"], told["runs"]["attempts"], told["sweep"]["used"]) == (9, [1], "")


def test_how_long_a_run_took_is_said_by_the_ledger_without_pauses(services: Services, tmp_path: Path) -> None:
    sweep = services.sweep(grid(9))
    run = services.begun(sweep)
    known, path = replace(services.world, sweeps_in=tmp_path), RunPath("local", "p", run)

    def times(world: AppContext) -> tuple[Any, Any]:
        columns = json.loads(Sweeps(0.0).sweep_json(world, at(sweep), ""))["runs"]
        page = run_data(world, path)["run"]
        assert ([page["spent"]], [page["since"]]) == (columns["spent"], columns["since"])
        return page["spent"], page["since"]

    with Ledger(tmp_path / sweep / "ledger.db") as ledger:
        ledger.record_facts({"path": f"local/p/{sweep}"})
        for number, began in ((1, 1000.0), (2, 2000.0)):
            record_start(
                ledger, RunId(run), parameters={}, attempt=number, slot=Slot(0), device=None, at=began
            )
            if number == 1:
                crash = AttemptEnd(outcome=Outcome.CRASHED, duration_s=10.0)
                record_attempt_end(ledger, RunId(run), 1, crash)
        assert times(known) == (10.0, 2000.0)
        services.finish(sweep, run)
        assert times(known) == (None, None), "the ledger says less than the server"
        end = AttemptEnd(outcome=Outcome.FINISHED, duration_s=15.0)
        record_end(ledger, RunId(run), 2, end)
    assert times(known) == (15.0, None)
    assert times(services.world) == (None, None)


def test_a_row_changes_with_the_ledger_alone(services: Services) -> None:
    sweep = services.sweep(grid(9))
    run = services.perform(sweep, services.agent(sweep))
    with services.world.database.read() as transaction:
        project = sweep_at(transaction, at(sweep)).project_id
        table = RunTable(RunScope(project, sweep), fresh_s=0.0)
        first = table.changes_since(transaction, None, "")
        ledger = {run: LedgerRun(attempts=2, is_over=True, spent_s=15.0, since=None)}
        changed = table.changes_since(transaction, None, first.revision, ledger)
        (row,) = changed.rows
        facts = dict(zip(FACTS, row.facts, strict=True))
        assert (facts["id"], facts["spent"], facts["attempts"]) == (run, 15.0, 2)
        assert table.changes_since(transaction, None, changed.revision, dict(ledger)).rows == []


def attempt(
    run: RunId, number: int, slot: int, at: float, outcome: Outcome | None, reason: str = ""
) -> Attempt:
    return Attempt(run, number, Slot(slot), at, outcome, reason, 5.0 if outcome else None)


def share(*attempts: Attempt, marks: tuple[Incident, ...] = (), name: str = "") -> PerformedRuns:
    devices: dict[RunId, str | None] = {ONE: "3", TWO: None}
    return PerformedRuns(name, "local/p/s", attempts, marks, devices, {Slot(0): "3", Slot(1): None})


def told(*shares: PerformedRuns, goes_on: bool = True) -> dict[str, Any]:
    return lanes_of(shares, lambda _: goes_on)


def test_a_worker_is_a_lane_with_its_devices_and_an_attempt_a_bar() -> None:
    timeline = told(share(attempt(ONE, 1, 0, 10.0, Outcome.FINISHED), attempt(TWO, 1, 1, 11.0, None)))
    assert [(lane["name"], lane["device"]) for lane in timeline["lanes"]] == [
        ("worker 0", "3"),
        ("worker 1", None),
    ]
    assert [(bar["lane"], bar["run"], bar["end"], bar["outcome"]) for bar in timeline["bars"]] == [
        (0, "one", 15.0, "finished"),
        (1, "two", None, None),
    ]
    assert timeline["marks"] == []


def test_an_attempt_without_an_end_that_nobody_performs_was_cut_short() -> None:
    (bar,) = told(share(attempt(TWO, 1, 1, 11.0, None)), goes_on=False)["bars"]
    assert (bar["end"], bar["outcome"]) == (11.0, "cut short")


def test_a_later_attempt_is_a_retry_marked_with_what_became_of_the_one_before() -> None:
    crashed = attempt(ONE, 1, 0, 10.0, Outcome.CRASHED, "SIGKILL")
    (mark,) = told(share(crashed, attempt(ONE, 2, 1, 20.0, None)))["marks"]
    assert mark == {"lane": 1, "at": 20.0, "kind": "retry", "text": "SIGKILL"}


def test_a_restart_marks_its_slot_and_a_quarantine_each_slot_of_its_device() -> None:
    marks = (Incident(12.0, RESTART, Slot(1), None, ""), Incident(13.0, QUARANTINE, None, "3", "ECC"))
    assert told(share(marks=marks))["marks"] == [
        {"lane": 1, "at": 12.0, "kind": "restart", "text": "a new process in its place"},
        {"lane": 0, "at": 13.0, "kind": "quarantine", "text": "ECC"},
    ]


def test_shares_have_lanes_of_their_own() -> None:
    both = told(share(name="share-1-of-2"), share(attempt(ONE, 1, 0, 1.0, None), name="share-2-of-2"))
    assert [lane["name"] for lane in both["lanes"]] == [
        *("share-1-of-2 worker 0", "share-1-of-2 worker 1", "share-2-of-2 worker 0", "share-2-of-2 worker 1")
    ]
    assert both["bars"][0]["lane"] == 2
