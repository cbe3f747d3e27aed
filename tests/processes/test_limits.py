"""Limits of runs, of workers and of the whole sweep, met by real ones."""

from __future__ import annotations

import resource
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.processes.conftest import Ended, RealSweep, outcomes

NO_BREAKER = {"max_initial": None}


def reasons(ended: Ended) -> set[str]:
    return {run["reason"] for run in ended.summary["runs"]}


def stopped_by_policy(ended: Ended, words: str) -> None:
    """Expect the failure policy's exit code, its words in the summary, and one line of them for the user."""
    assert ended.code == ExitCode.FAILURE_POLICY, ended.stderr
    assert words in ended.summary["stop_reason"]
    assert ended.stderr.splitlines().count(f"ended: {ended.summary['stop_reason']}") == 1
    assert ended.summary["lost"] == 0


def test_a_run_past_its_time_fails_and_its_worker_goes_on_with_the_next(sweep: RealSweep) -> None:
    ended = sweep.start("sleeper", count=3, workers=1, run_timeout_s=1.5, failures=NO_BREAKER).finish()
    assert outcomes(ended.summary) == ["failed"] * 3
    assert reasons(ended) == {"run timeout 1.5 s"}
    assert len(sweep.entries("interrupted")) == 3
    assert len({entry.pid for entry in sweep.entries()}) == 1


def test_a_run_past_its_time_that_is_deaf_is_killed_after_the_grace_period(sweep: RealSweep) -> None:
    sweep.start("deaf", count=2, workers=1, run_timeout_s=1.5, grace_period_s=1, failures=NO_BREAKER)
    ended = sweep.finish()
    assert outcomes(ended.summary) == ["failed"] * 2
    assert reasons(ended) == {"run timeout 1.5 s; killed"}
    assert [run["attempts"] for run in ended.summary["runs"]] == [1, 1]
    assert len({entry.pid for entry in sweep.entries()}) == 2


def test_a_sweep_past_its_time_stops_every_run_and_can_be_resumed(sweep: RealSweep) -> None:
    ended = sweep.start("sleeper", count=10, sweep_timeout_s=4).finish()
    assert ended.code == ExitCode.SWEEP_TIMEOUT, ended.stderr
    assert ended.summary["stop_reason"] == "sweep timeout 4 s"
    assert outcomes(ended.summary) == ["stopped"] * 2
    cut = {entry.run_id for entry in sweep.entries()}
    sweep.start("brief", count=3, arguments=("--resume", ended.summary["sweep_id"]))
    ended = sweep.finish()
    assert ended.code == ExitCode.COMPLETE, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * 3
    assert cut < {entry.run_id for entry in sweep.entries()}


def test_limits_of_months_and_ages_end_nothing(sweep: RealSweep) -> None:
    month_s, age_s = 30 * 86400, 1e30
    far: dict[str, Any] = {"sweep_timeout_s": month_s, "run_timeout_s": age_s, "stall_timeout_s": age_s}
    ended = sweep.start("brief", count=2, grace_period_s=age_s, deadline="9999-12-31 23:59", **far).finish()
    assert ended.code == ExitCode.COMPLETE, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * 2


def test_a_run_that_stalls_once_is_run_again(sweep: RealSweep) -> None:
    ended = sweep.start("hangs_at_first", count=2, stall_timeout_s=2).finish()
    assert outcomes(ended.summary) == ["finished"] * 2
    assert {run["attempts"] for run in ended.summary["runs"]} == {2}


def test_a_run_that_logs_now_and_then_has_not_stalled(sweep: RealSweep) -> None:
    ended = sweep.start("logs_slowly", count=1, workers=1, stall_timeout_s=2).finish()
    assert outcomes(ended.summary) == ["finished"], ended.stderr
    assert ended.summary["runs"][0]["attempts"] == 1


def test_a_run_that_logs_while_the_ledger_cannot_be_written_has_not_stalled(sweep: RealSweep) -> None:
    sweep.start("logs_for_long_in_slot_0", count=2, stall_timeout_s=2).wait_for(2)
    (path,) = sweep.directory.glob("*/ledger.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(6)  # the end of the run in slot 1 waits for its record meanwhile
        other.execute("ROLLBACK")
    ended = sweep.finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr
    assert [run["attempts"] for run in ended.summary["runs"]] == [1, 1]


def test_a_worker_is_replaced_after_its_runs_at_no_cost_of_restarts(sweep: RealSweep) -> None:
    restart = {"max_restarts": 1, "window_s": 600}
    ended = sweep.start("quick", count=6, workers=2, recycle_after=1, restart=restart).finish()
    assert ended.code == ExitCode.COMPLETE, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * 6
    assert len({entry.pid for entry in sweep.entries()}) == 6
    assert sum(worker["runs"] for worker in ended.summary["workers"]) == 6


def test_a_worker_has_exactly_so_many_runs_as_it_is_to_be_replaced_after(sweep: RealSweep) -> None:
    sweep.start("quick", count=6, workers=1, recycle_after=3).finish()
    pids = [entry.pid for entry in sweep.entries()]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3]


def test_failures_before_any_run_has_finished_end_the_sweep(sweep: RealSweep) -> None:
    ended = sweep.start("failing", count=50).finish()
    stopped_by_policy(ended, "failures.max_initial is 5")
    assert 5 <= ended.summary["attempted"] <= 7


def test_failures_in_a_row_end_the_sweep_counted_over_all_workers(sweep: RealSweep) -> None:
    ended = sweep.start("fails_later", count=50, failures={"max_consecutive": 4}).finish()
    stopped_by_policy(ended, "failures.max_consecutive is 4")
    assert ended.summary["finished"] >= 1


def test_so_many_failures_in_total_end_the_sweep(sweep: RealSweep) -> None:
    ended = sweep.start("fails_every_other_time", count=50, failures={"max_total": 3}).finish()
    stopped_by_policy(ended, "failures.max_total is 3")
    assert ended.summary["finished"] >= 1


def test_a_slot_that_gives_up_leaves_its_share_to_the_others(sweep: RealSweep) -> None:
    ended = sweep.start("dies_in_slot_0", count=5, retries=5, restart={"max_restarts": 0}).finish()
    assert ended.code == ExitCode.COMPLETE, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * 5
    assert "gave up" in ended.stderr
    slots = [entry.slot for entry in sweep.entries()]
    assert slots.count(0) == 1
    assert slots.count(1) == 5


def test_when_all_workers_gave_up_the_sweep_ends_and_says_why(sweep: RealSweep) -> None:
    keys: dict[str, Any] = {"retries": 9, "restart": {"max_restarts": 2, "backoff_s": 0.05}}
    ended = sweep.start("exiting", count=8, **keys).finish()
    stopped_by_policy(ended, "all workers gave up: exit 3")
    assert outcomes(ended.summary) == ["crashed"] * 2
    assert len(sweep.entries()) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be set on Linux alone")
def test_a_sweep_for_whose_workers_the_system_has_no_descriptors_goes_on_once_it_has(
    sweep: RealSweep,
) -> None:
    sweep.start("brief", count=6, recycle_after=1)
    sweep.wait_for(2)
    server = sweep.process_named("parallel_hpo.worker.forkserver")
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    taken = {int(entry.name) for entry in Path(f"/proc/{server.pid}/fd").iterdir()}
    _, second_free, *_ = (number for number in range(100) if number not in taken)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (second_free, limits[1]))  # a child takes two
    said = sweep.read_until("can't be started")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 6), ended.stderr
    words = "can't be started: Too many open files in the fork server (ulimit -n); retrying until"
    assert words in said
