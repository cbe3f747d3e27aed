"""Launches under a real Slurm, where it is installed: arrays, `srun`, and the signals that it sends."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.forked import forked
from tests.processes.conftest import DEADLINE_S, MAINS, Ended, RealSweep, outcomes
from tests.slurm import NoSlurmError, Slurm, running_slurm

SCRIPT: Final = Path(__file__).parents[2] / "scripts" / "batch" / "slurm-array.sh"
SHARES: Final = 2
COUNT: Final = 5


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm of these tests' own."""
    try:
        with running_slurm(tmp_path_factory.mktemp("slurm"), os.environ) as made:
            yield made
    except NoSlurmError as error:
        pytest.skip(str(error))


def lead_to(slurm: Slurm, sweep: RealSweep) -> RealSweep:
    """Have a sweep's commands go to Slurm."""
    sweep.env |= slurm.variables | {"PATH": f"{Path(sys.executable).parent}:{sweep.env['PATH']}"}
    return sweep


def start_tasks(sweep: RealSweep, sweep_id: str) -> RealSweep:
    """Start all shares as the tasks of one `srun`."""
    sweep.launcher = ("srun", f"--ntasks={SHARES}", "--output=tasks.out", *forked())
    part = ("--sweep-id", sweep_id, "--share", "slurm")
    return sweep.start_command("-m", "parallel_hpo", "run", "config.json", f"{MAINS}:held", *part)


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
    sweep_id = lead_to(slurm, sweep).create(count=COUNT, workers=1)
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


@dataclass(frozen=True)
class Launches:
    """A sweep whose shares were the tasks of one `srun` after the other, and how each of those ended."""

    sweep: RealSweep
    sweep_id: str
    drained: Ended
    let_end: set[str]
    """The runs that were inside `main` at the drain."""
    terminated: Ended
    shares: list[Any]
    """As they were then."""
    completed: Ended


@pytest.fixture(scope="module")
def launches(new_sweep: Callable[[], RealSweep], slurm: Slurm) -> Launches:
    """1. All shares are inside a run, and their job is told to drain. 2. Another job goes on with them, and
    is terminated inside the next runs. 3. One more job performs the rest.
    """
    sweep = lead_to(slurm, new_sweep())
    sweep_id = sweep.create(count=COUNT, workers=1)
    start_tasks(sweep, sweep_id).wait_for(SHARES)
    slurm.call("scancel", "--signal=USR1", *slurm.jobs())
    sweep.wait_until(lambda: draining(sweep, "tasks.out") == SHARES, "the drain")
    let_go(sweep)
    drained = sweep.finish()
    let_end = {entry.run_id for entry in sweep.entries()}
    slurm.wait_for_all()

    (sweep.folder / "go").unlink()
    start_tasks(sweep, sweep_id).wait_for(2 * SHARES)
    slurm.call("scancel", *slurm.jobs())
    terminated = sweep.finish()
    shares = shares_of(sweep, sweep_id)

    let_go(sweep)
    completed = start_tasks(sweep, sweep_id).finish()
    return Launches(sweep, sweep_id, drained, let_end, terminated, shares, completed)


def test_a_drain_that_reaches_every_process_of_a_job_cuts_no_run(launches: Launches) -> None:
    assert launches.drained.code == ExitCode.RESUMABLE
    assert launches.completed.code == ExitCode.COMPLETE
    expect_complete(launches.sweep, launches.sweep_id)
    attempts = [entry.attempt for entry in launches.sweep.entries() if entry.run_id in launches.let_end]
    assert attempts == [1] * SHARES


def test_a_job_whose_every_process_is_terminated_can_be_gone_on_with(launches: Launches) -> None:
    assert launches.terminated.code == ExitCode.SIGNAL_BASE + signal.SIGTERM
    assert [sorted(outcomes(share)) for share in launches.shares] == [["finished", "stopped"]] * SHARES
    assert launches.completed.code == ExitCode.COMPLETE
    expect_complete(launches.sweep, launches.sweep_id)
