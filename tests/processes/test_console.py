"""What a run prints is on the server, as with a stock agent, and in its worker's log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes.conftest import RealSweep, outcomes

TALKING = """
import subprocess, sys
import wandb

def talk():
    with wandb.init() as run:
        print("said by", run.id)
        print("complained by", run.id, file=sys.stderr)
        run.log({"loss": 1.0})
    sys.stdout.close()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_each_run_prints_is_on_the_server_and_in_its_folder(
    sweep: RealSweep, tmp_path: Path, method: str
) -> None:
    """1. A run prints, and closes its output. 2. The next one in its worker prints too."""
    mains = tmp_path / "talking.py"
    mains.write_text(TALKING)
    ended = sweep.start("talk", mains=mains, count=2, workers=1, start_method=method).finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr
    for run in ended.summary["runs"]:
        words = [f"said by {run['run_id']}", f"complained by {run['run_id']}"]
        (log,) = sweep.directory.glob(f"*/worker-0/wandb/run-*-{run['run_id']}/files/output.log")
        assert set(words) <= set(log.read_text().splitlines())
        assert all(word in console_on_the_server(sweep, run["run_id"]) for word in words)
        assert all(sweep.printed(word) == 1 for word in words)


def console_on_the_server(sweep: RealSweep, run_id: str) -> str:
    """Return the console's lines of a run, as the sweep's server has them."""
    with closing(sqlite3.connect(f"file:{sweep.directory / 'server.db'}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT lines.text FROM lines JOIN runs ON runs.id = lines.run_id"
            " WHERE runs.name = ? AND stream = 2 ORDER BY number",
            (run_id,),
        ).fetchall()
    return "\n".join(text for (text,) in rows)
