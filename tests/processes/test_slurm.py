"""Launches under a real Slurm, where it is installed: arrays, `srun`, and the signals that it sends."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.errors import ExitCode
from tests.processes.conftest import DEADLINE_S, MAINS, RealSweep, outcomes
from tests.slurm import NoSlurmError, Slurm, running_slurm

SCRIPT: Final = Path(__file__).parents[2] / "scripts" / "batch" / "slurm-array.sh"
SHARES: Final = 2
COUNT: Final = 5


@pytest.fixture
def slurm(sweep: RealSweep, tmp_path: Path) -> Iterator[Slurm]:
    """A Slurm of the test's own, to which the sweep's commands go."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    try:
        with running_slurm(folder, sweep.env) as made:
            sweep.env |= made.variables | {"PATH": f"{Path(sys.executable).parent}:{sweep.env['PATH']}"}
            yield made
    except NoSlurmError as error:
        pytest.skip(str(error))


def start_tasks(sweep: RealSweep, sweep_id: str) -> RealSweep:
    """Start all shares as the tasks of one `srun`."""
    sweep.launcher = (
        "srun",
        f"--ntasks={SHARES}",
        "--output=tasks.out",
        sys.executable,
        "-m",
        "parallel_hpo",
    )
    part = ("--sweep-id", sweep_id, "--share", "slurm")
    return sweep.start_command("run", "config.json", f"{MAINS}:held", *part)


def let_go(sweep: RealSweep) -> None:
    """Let the runs end, also those that are still to begin."""
    (sweep.folder / "go").touch()


def draining(sweep: RealSweep, output: str) -> int:
    """Return how many launches have said that they drain."""
    return sum(file.read_text().count("SIGUSR1: no new runs") for file in sweep.folder.glob(output))


def shares_of(sweep: RealSweep, sweep_id: str) -> list[Any]:
    folders = (sweep.directory / sweep_id).glob(f"share-*-of-{SHARES}")
    return [json.loads((folder / "summary.json").read_text()) for folder in folders]


def expect_complete(sweep: RealSweep, sweep_id: str) -> None:
    """The shares have performed the count exactly."""
    shares = shares_of(sweep, sweep_id)
    assert sorted(share["finished"] for share in shares) == [2, 3]
    run_ids = {run["run_id"] for share in shares for run in share["runs"]}
    assert len(run_ids) == COUNT
    assert {entry.run_id for entry in sweep.entries()} == run_ids


@pytest.mark.thorough
def test_an_array_performs_the_count_also_where_a_task_is_put_back_into_the_queue(
    sweep: RealSweep, slurm: Slurm
) -> None:
    """1. One task of the array is told to drain. 2. It is put back into the queue, and performs the rest."""
    sweep_id = sweep.create(count=COUNT, workers=1)
    options = (f"--array=1-{SHARES}", "--export=ALL", f"--chdir={sweep.folder}")
    slurm.call("sbatch", *options, str(SCRIPT), **sweep.env, SWEEP=sweep_id, TARGET=f"{MAINS}:held")
    assert sweep.comes(lambda: len(sweep.entries()) == SHARES, within_s=DEADLINE_S)
    first = next(task for task in slurm.jobs() if task.endswith("_1"))
    slurm.call("scancel", "--signal=USR1", "--batch", first)
    assert sweep.comes(lambda: draining(sweep, "slurm-*_1.out") == 1, within_s=DEADLINE_S)
    let_go(sweep)
    assert sweep.comes(lambda: slurm.jobs().get(first) == "PENDING", within_s=DEADLINE_S)
    # Two minutes is what Slurm waits; a job whose last end is not a second old is refused by the node.
    slurm.call("scontrol", "update", f"JobId={first}", "StartTime=now+2")
    assert slurm.wait_for_all() == {"COMPLETED"}
    expect_complete(sweep, sweep_id)
    assert {entry.attempt for entry in sweep.entries()} == {1}


@pytest.fixture
def tasks(sweep: RealSweep, slurm: Slurm) -> str:
    """A sweep whose shares have all begun a run each, as tasks of one `srun`; its id."""
    sweep_id = sweep.create(count=COUNT, workers=1)
    start_tasks(sweep, sweep_id)
    sweep.wait_for(SHARES)
    return sweep_id


def test_a_drain_that_reaches_every_process_of_a_job_cuts_no_run(
    sweep: RealSweep, slurm: Slurm, tasks: str
) -> None:
    slurm.call("scancel", "--signal=USR1", *slurm.jobs())
    sweep.wait_until(lambda: draining(sweep, "tasks.out") == SHARES, "the drain")
    let_go(sweep)
    assert sweep.finish().code == ExitCode.RESUMABLE
    assert start_tasks(sweep, tasks).finish().code == ExitCode.COMPLETE
    expect_complete(sweep, tasks)
    assert {entry.attempt for entry in sweep.entries()} == {1}


def test_a_job_whose_every_process_is_terminated_can_be_gone_on_with(
    sweep: RealSweep, slurm: Slurm, tasks: str
) -> None:
    slurm.call("scancel", *slurm.jobs())
    assert sweep.finish().code == ExitCode.SIGNAL_BASE + signal.SIGTERM
    assert [outcomes(share) for share in shares_of(sweep, tasks)] == [["stopped"]] * SHARES
    let_go(sweep)
    assert start_tasks(sweep, tasks).finish().code == ExitCode.COMPLETE
    expect_complete(sweep, tasks)
