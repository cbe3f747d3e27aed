"""Hyperband, with real workers: a run that a death cut short is judged, and counted, like any other."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from typing import Any, Final

from parallel_hpo.errors import ExitCode
from tests.processes.conftest import RealSweep

SWEEP: Final = {
    "method": "grid",
    "metric": {"name": "loss"},
    "parameters": {"x": {"values": [1, 2]}},
    "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 3},
}


def on_the_server(sweep: RealSweep, column: str, run_id: str) -> Any:
    with closing(sqlite3.connect(sweep.directory / "server.db", timeout=60)) as database:
        (found,) = database.execute(f"SELECT {column} FROM runs WHERE name = ?", (run_id,)).fetchone()
    return found


def test_a_run_that_is_run_again_is_judged_anew_and_counted_as_stopped(sweep: RealSweep) -> None:
    """1. It dies one row before the band. 2. Its second attempt is judged by its third row, not by its first.

    There is no agent then: it is wandb's client that hears of the stop.
    """
    sweep.env["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    sweep.start("judged", sweep=SWEEP, workers=1)
    first = sweep.wait_for(1, "logged")[0]
    sweep.wait_until(lambda: on_the_server(sweep, "metric_rows", first.run_id) == 2, "the first rows")
    os.kill(first.pid, signal.SIGKILL)
    sweep.wait_for(2, "logged")
    sweep.wait_until(lambda: on_the_server(sweep, "history_lines", first.run_id) == 3, "the third row")
    assert on_the_server(sweep, "metric_rows", first.run_id) == 1
    assert not on_the_server(sweep, "stop_requested", first.run_id)
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert ended.code == ExitCode.COMPLETE
    assert (ended.summary["finished"], ended.summary["stopped"], ended.summary["failed"]) == (1, 1, 0)
    run = next(run for run in ended.summary["runs"] if run["run_id"] == first.run_id)
    assert (run["attempts"], run["reason"]) == (2, "stopped by the sweep")
    assert sweep.runs_on_the_server()[first.run_id].state == "killed"
