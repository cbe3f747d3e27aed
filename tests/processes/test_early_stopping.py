"""Hyperband, with real workers: a run that a death cut short is judged, and counted, like any other."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import yaml

from parallel_hpo.core.errors import ExitCode
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


PROGRAM: Final = """
import argparse, time
import wandb
from wandb.sdk.lib import run_stopping

run_stopping.RunStopChecker.__init__.__kwdefaults__["poll_interval"] = 0.2
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=int)
x = parser.parse_args().x
run = wandb.init()
for _ in range(3 if x == 1 else 600):
    run.log({"loss": x})
    time.sleep(0.05)
"""


def test_a_program_that_its_own_client_interrupts_for_the_sweep_is_stopped_and_not_run_again(
    sweep: RealSweep,
) -> None:
    """The client in the program asks more often here than the agent of its worker does."""
    sweep.env["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    sweep.env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    (sweep.folder / "train.py").write_text(PROGRAM)
    (sweep.folder / "sweep.yaml").write_text(yaml.dump(SWEEP | {"program": "train.py"}))
    place = ("--directory", str(sweep.directory), "--workers", "1", "--json")
    ended = sweep.start_command("-m", "parallel_hpo", "run", "sweep.yaml", *place).finish()
    assert ended.code == ExitCode.COMPLETE, ended.stderr
    assert [(run["outcome"], run["attempts"]) for run in ended.summary["runs"]] == [
        ("finished", 1),
        ("stopped", 1),
    ]
