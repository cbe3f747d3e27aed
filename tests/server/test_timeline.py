"""The timeline of a sweep: from what the server saw itself, and from the ledgers beside its database.

The records of ledgers become lanes, bars and marks.
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
from parallel_hpo.server.pages.histories import CurveQuery, Histories
from parallel_hpo.server.pages.run_data import FACTS, attempts_of, run_data
from parallel_hpo.server.pages.sweep_data import RunTable, Sweeps, sweep_at
from parallel_hpo.server.pages.timeline import lanes_of, timeline
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.run_table import RunScope
from parallel_hpo.server.store.runs import RunPath
from tests.ledgers import record_attempt_end, record_end, record_start
from tests.server.server_logic import START, Services, grid

ONE, TWO = RunId("one"), RunId("two")


def ledger_of(services: Services, folder: Path, sweep: str, **facts: Any) -> Ledger:
    """Begin a ledger of the sweep in this folder, and let the server read it from now on."""
    services.world = replace(services.world, sweeps_in=folder)
    ledger = Ledger(folder / sweep / "ledger.db")
    ledger.record_facts({"path": f"local/p/{sweep}"} | facts)
    return ledger


def begin(ledger: Ledger, run: str, attempt: int = 1, device: str | None = None, **more: Any) -> None:
    record_start(ledger, RunId(run), parameters={}, attempt=attempt, slot=Slot(0), device=device, **more)


def columns(world: AppContext, services: Services, sweep: str) -> Any:
    return json.loads(Sweeps(0.0).sweep_json(world, services.at(sweep), ""))


def test_a_worker_is_one_lane_and_only_a_new_process_in_its_slot_is_a_restart(services: Services) -> None:
    sweep = services.sweep(grid(9))
    names = []
    for label in ("mark_0_1", "mark_0_1", "mark_1_2", "mark_0_3"):
        names.append(services.perform(sweep, services.agent(sweep, label)))
        services.clock.now += 10
    names.append(services.begun(sweep, "mark_0_3"))
    told = timeline(services.world, services.at(sweep))
    lanes = [(lane["machine"], lane["name"], lane["device"]) for lane in told["lanes"]]
    assert lanes == [("host", "worker 0", None), ("host", "worker 1", None)]
    bars = {bar["run"]: bar for bar in told["bars"]}
    assert [bars[name]["lane"] for name in names] == [0, 0, 1, 0, 0]
    assert (bars[names[0]]["end"], bars[names[-1]]["end"]) == (START, None)
    assert [(mark["lane"], mark["kind"]) for mark in told["marks"]] == [(0, "restart")]


@pytest.mark.parametrize("path", ["local/p/{sweep}", "local/elsewhere/{sweep}"])
def test_only_the_ledger_of_the_sweep_itself_is_read(services: Services, tmp_path: Path, path: str) -> None:
    sweep = services.sweep(grid(3))
    run = services.issued(services.agent(sweep, "mark_0_1"))
    with ledger_of(services, tmp_path, sweep, path=path.format(sweep=sweep)) as ledger:
        begin(ledger, run, device="GPU 3")
    told = timeline(services.world, services.at(sweep))
    is_its_own = path.startswith("local/p/")
    assert [lane["device"] for lane in told["lanes"]] == (["GPU 3"] if is_its_own else [None])
    assert [(bar["run"], bar["end"]) for bar in told["bars"]] == ([(run, None)] if is_its_own else [])


def test_a_damaged_ledger_is_ignored(services: Services, tmp_path: Path) -> None:
    sweep = services.sweep(grid(3))
    services.agent(sweep, "mark_0_1")
    (tmp_path / sweep).mkdir()
    (tmp_path / sweep / "ledger.db").write_bytes(b"no ledger" * 1000)
    told = timeline(replace(services.world, sweeps_in=tmp_path), services.at(sweep))
    assert [lane["name"] for lane in told["lanes"]] == ["worker 0"]


def test_the_run_count_attempts_and_usage_come_from_the_ledger(services: Services, tmp_path: Path) -> None:
    sweep = services.sweep(grid(9))
    run = services.perform(sweep, services.agent(sweep))
    without = columns(services.world, services, sweep)
    assert (without["sweep"]["count"], without["runs"]["attempts"], without["sweep"]["used"]) == (9, [1], "")
    with ledger_of(services, tmp_path, sweep, count=4) as ledger:
        for attempt in (1, 2):
            begin(ledger, run, attempt)
        crash = AttemptEnd(outcome=Outcome.CRASHED, consumption=Consumption(1.5, 0.25))
        record_attempt_end(ledger, RunId(run), 1, crash)
    told = columns(services.world, services, sweep)
    assert (told["sweep"]["count"], told["runs"]["attempts"]) == (4, [2])
    used = "1.5 device hours, 0.25 kWh of devices"
    assert told["sweep"]["used"] == used
    assert [each["used"] for each in attempts_of(services.world, services.at(sweep), run)] == [used, ""]


def test_curves_mark_where_the_last_attempt_begins(services: Services, tmp_path: Path) -> None:
    sweep = services.sweep(grid(2))
    run, other = (services.issued(services.agent(sweep, f"mark_{slot}_1")) for slot in (0, 1))
    with ledger_of(services, tmp_path, sweep) as ledger:
        for attempt in (1, 2):
            services.clock.now += 100
            services.start(sweep, run, opener=f"mark_0_{attempt}")
            begin(ledger, run, attempt)
            first = services.run(run).history_lines
            rows = [
                {"_step": step, "_runtime": step / 2, "_timestamp": services.clock() + step, "loss": step}
                for step in range(first, first + 3)
            ]
            services.stream(run, Chunk((Batch(Stream.HISTORY, first, tuple(map(json.dumps, rows))),)))
    services.start(sweep, other)
    services.stream(other, Chunk((Batch(Stream.HISTORY, 0, (json.dumps(rows[0]),)),)))
    known, curves = services.world, Histories(repeated=Sweeps(0.0).repeated)
    told = json.loads(curves.of_sweep(known, services.at(sweep), [], CurveQuery("loss", "step", 100)))
    assert {each["id"]: each.get("since") for each in told["runs"]} == {run: 3, other: None}
    path, by_time = RunPath("local", "p", run), CurveQuery("loss", "time", 100)
    points = json.loads(curves.of_run(known, path, by_time))["points"]
    assert points == {"x": [0, 0.5, 1, 1.5, 2, 2.5], "y": [0, 1, 2, 3, 4, 5], "since": 1.5}


def test_the_ledger_gives_a_runs_duration_without_pauses(services: Services, tmp_path: Path) -> None:
    sweep = services.sweep(grid(9))
    run = services.begun(sweep)

    def times(world: AppContext) -> tuple[Any, Any]:
        row = columns(world, services, sweep)["runs"]
        page = run_data(world, RunPath("local", "p", run))["run"]
        assert ([page["spent"]], [page["since"]]) == (row["spent"], row["since"])
        return page["spent"], page["since"]

    unaware = services.world
    with ledger_of(services, tmp_path, sweep) as ledger:
        begin(ledger, run, 1, at=1000.0)
        record_attempt_end(ledger, RunId(run), 1, AttemptEnd(outcome=Outcome.CRASHED, duration_s=10.0))
        begin(ledger, run, 2, at=2000.0)
        assert times(services.world) == (10.0, 2000.0)
        services.finish(sweep, run)
        assert times(services.world) == (None, None), "the ledger knows less than the server"
        record_end(ledger, RunId(run), 2, AttemptEnd(outcome=Outcome.FINISHED, duration_s=15.0))
    assert times(services.world) == (15.0, None)
    assert times(unaware) == (None, None)


def test_a_row_is_sent_again_when_only_the_ledger_changes(services: Services) -> None:
    sweep = services.sweep(grid(9))
    run = services.perform(sweep, services.agent(sweep))
    with services.world.database.read() as transaction:
        project = sweep_at(transaction, services.at(sweep)).project_id
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
    lanes = told(share(attempt(ONE, 1, 0, 10.0, Outcome.FINISHED), attempt(TWO, 1, 1, 11.0, None)))
    named = [(lane["name"], lane["device"]) for lane in lanes["lanes"]]
    assert named == [("worker 0", "3"), ("worker 1", None)]
    bars = [(bar["lane"], bar["run"], bar["end"], bar["outcome"]) for bar in lanes["bars"]]
    assert bars == [(0, "one", 15.0, "finished"), (1, "two", None, None)]
    assert lanes["marks"] == []


def test_an_open_attempt_that_is_no_longer_running_is_shown_as_cut_short() -> None:
    (bar,) = told(share(attempt(TWO, 1, 1, 11.0, None)), goes_on=False)["bars"]
    assert (bar["end"], bar["outcome"]) == (11.0, "cut short")


def test_a_retry_is_marked_with_the_reason_why_the_previous_attempt_ended() -> None:
    crashed = attempt(ONE, 1, 0, 10.0, Outcome.CRASHED, "SIGKILL")
    (mark,) = told(share(crashed, attempt(ONE, 2, 1, 20.0, None)))["marks"]
    assert mark == {"lane": 1, "at": 20.0, "kind": "retry", "text": "SIGKILL"}


def test_a_restart_marks_its_slot_and_a_quarantine_each_slot_of_its_device() -> None:
    marks = (Incident(12.0, RESTART, Slot(1), None, ""), Incident(13.0, QUARANTINE, None, "3", "ECC"))
    assert told(share(marks=marks))["marks"] == [
        {"lane": 1, "at": 12.0, "kind": "restart", "text": "a new process in its place"},
        {"lane": 0, "at": 13.0, "kind": "quarantine", "text": "ECC"},
    ]


def test_each_share_has_its_own_lanes() -> None:
    both = told(share(name="share-1-of-2"), share(attempt(ONE, 1, 0, 1.0, None), name="share-2-of-2"))
    names = [f"share-{number}-of-2 worker {slot}" for number in (1, 2) for slot in (0, 1)]
    assert [lane["name"] for lane in both["lanes"]] == names
    assert both["bars"][0]["lane"] == 2
