"""The power goes in the middle of a sweep: what is resumed then is whole."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.power import Disk, disk, why_no_disk
from tests.processes.conftest import DEADLINE_S, RealSweep, outcomes

pytestmark = pytest.mark.thorough

POINTS: Final = 6
GRID: Final[dict[str, Any]] = {
    "method": "grid",
    "metric": {"name": "loss"},
    "parameters": {"x": {"values": list(range(POINTS))}},
}


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Disk]:
    reason = why_no_disk()
    if reason is not None:
        pytest.skip(reason)
    with disk(tmp_path) as made:
        yield made


def pull(plug: Disk, sweep: RealSweep) -> None:
    """Cut the power, which ends all of the sweep's processes, and bring the disk back."""
    plug.cut_power()
    processes = sweep.tree()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert sweep.process is not None
    sweep.process.communicate()
    psutil.wait_procs(processes, timeout=DEADLINE_S)
    plug.restore()


def ledger_says(directory: Path) -> dict[str, str]:
    """Return each run's outcome, as the disk has it."""
    (path,) = directory.glob("*/ledger.db")
    with closing(sqlite3.connect(path)) as ledger:
        return dict(ledger.execute("SELECT run_id, outcome FROM runs"))


def test_what_the_ledger_counts_the_server_has_and_each_grid_point_is_run_once(
    sweep: RealSweep, plug: Disk
) -> None:
    sweep.directory = plug.folder / "sweeps"
    sweep.start("brief", sweep=GRID).wait_for(5)
    pull(plug, sweep)
    counted = {run_id for run_id, outcome in ledger_says(sweep.directory).items() if outcome}
    on_the_server = sweep.runs_on_the_server()
    assert counted
    assert {on_the_server[run_id].state for run_id in counted} == {"finished"}
    (ledger,) = sweep.directory.glob("*/ledger.db")
    ended = sweep.start("brief", sweep=GRID, arguments=("--resume", ledger.parent.name)).finish()
    assert ended.code == 0, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * POINTS
    assert Counter(run["parameters"]["x"] for run in ended.summary["runs"]) == Counter(range(POINTS))
    states = {run_id: run.state for run_id, run in sweep.runs_on_the_server().items()}
    assert states == {run["run_id"]: "finished" for run in ended.summary["runs"]}
