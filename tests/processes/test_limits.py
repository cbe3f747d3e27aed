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
    sweep.start("logs_for_long_in_slot_0", count=2, stall_timeout_s=3).wait_for(2)
    with closing(
        sqlite3.connect(sweep.directory / sweep.sweep_id / "ledger.db", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(5)  # the end of the run in slot 1 waits for its record meanwhile
        other.execute("ROLLBACK")
    ended = sweep.finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr
    assert [run["attempts"] for run in ended.summary["runs"]] == [1, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be set on Linux alone")
def test_replaced_workers_cost_no_restart_also_while_the_system_has_no_descriptors_for_them(
    sweep: RealSweep,
) -> None:
    sweep.start("brief", count=4, recycle_after=1, restart={"max_restarts": 0}).wait_for(2)
    server = sweep.process_named("parallel_hpo.worker.forkserver")
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    taken = {int(entry.name) for entry in Path(f"/proc/{server.pid}/fd").iterdir()}
    _, second_free, *_ = (number for number in range(100) if number not in taken)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (second_free, limits[1]))  # a child takes two
    sweep.read_until("can't be started: Too many open files in the fork server (ulimit -n); retrying until")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 4), ended.stderr
    assert len({entry.pid for entry in sweep.entries()}) == 4
