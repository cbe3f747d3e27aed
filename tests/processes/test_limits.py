"""Limits of runs, workers and the machine that real processes meet; `tests/session/decide` has the rules."""

from __future__ import annotations

import resource
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes.conftest import RealSweep, outcomes


def test_a_run_that_logs_while_the_ledger_cannot_be_written_has_not_stalled(sweep: RealSweep) -> None:
    sweep.start("logs_for_long_in_slot_0", count=2, stall_timeout_s=5).wait_for(2)
    with closing(
        sqlite3.connect(sweep.directory / sweep.sweep_id / "ledger.db", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(8)  # the end of the run in slot 1 waits for its record meanwhile
        other.execute("ROLLBACK")
    ended = sweep.finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr
    assert [run["attempts"] for run in ended.summary["runs"]] == [1, 1]


def test_a_worker_is_replaced_after_its_runs_at_no_cost_of_restarts(sweep: RealSweep) -> None:
    restart = {"max_restarts": 0}
    ended = sweep.start("quick", count=6, workers=1, recycle_after=3, restart=restart).finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 6), ended.stderr
    pids = [entry.pid for entry in sweep.entries()]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3]


def test_runs_that_keep_dying_end_the_sweep_and_say_why(sweep: RealSweep) -> None:
    restart = {"max_restarts": 2, "backoff_s": 0.05}
    ended = sweep.start("exiting", count=8, retries=9, restart=restart).finish()
    assert (ended.code, ended.summary["stop_reason"]) == (4, "all workers gave up: exit 3"), ended.stderr
    assert outcomes(ended.summary) == ["crashed"] * 2
    assert len(sweep.entries()) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be set on Linux alone")
def test_a_sweep_goes_on_once_the_system_has_descriptors_for_its_workers_again(sweep: RealSweep) -> None:
    sweep.start("brief", count=6, recycle_after=1).wait_for(2)
    server = sweep.process_named("parallel_hpo.worker.forkserver")
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    taken = {int(entry.name) for entry in Path(f"/proc/{server.pid}/fd").iterdir()}
    _, second_free, *_ = (number for number in range(100) if number not in taken)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (second_free, limits[1]))  # a child takes two
    sweep.read_until("can't be started: Too many open files in the fork server (ulimit -n); retrying until")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 6), ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be read on Linux alone")
def test_a_sweep_is_scaled_no_further_than_the_limits_allow_and_says_so(sweep: RealSweep) -> None:
    sweep.launcher = ("sh", "-c", 'ulimit -S -n 120; ulimit -H -n 1000; exec "$@"', "sh")
    sweep.start("held", count=4).wait_for(2)
    assert sweep.process is not None
    pid = sweep.process.pid
    sweep.ask("scale", sweep.sweep_id, "40")
    sweep.wait_until(lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] > 40 * 6, "a higher limit")
    sweep.ask("scale", sweep.sweep_id, "1000")
    said = sweep.read_until("not scaled to 1000 workers: ")
    assert "this process may have 1000 (ulimit -Hn)" in said
    sweep.go()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 4), ended.stderr
