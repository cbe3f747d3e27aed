"""Sweeps under a real Slurm, where it is installed: on its jobs, and in shares that are tasks of one job."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.commands import MODULE
from tests.processes.conftest import (
    MAINS,
    RealSweep,
    expect_exact_on_two_machines,
    outcomes,
    with_own_python,
)
from tests.slurm import NoSlurmError, Slurm, running_slurm

SHARES: Final = 2
COUNT: Final = 5


@pytest.fixture
def slurm(sweep: RealSweep, tmp_path: Path) -> Iterator[Slurm]:
    """A Slurm of the sweep's own, with two nodes."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    try:
        with running_slurm(folder, with_own_python(sweep).env, ("m1", "m2")) as made:
            sweep.env |= made.variables
            yield made
    except NoSlurmError as error:
        pytest.skip(str(error))


def test_a_sweep_on_the_jobs_of_slurm(sweep: RealSweep, slurm: Slurm) -> None:
    expect_exact_on_two_machines(sweep, engine="slurm", count=2)


def start_tasks(sweep: RealSweep, sweep_id: str) -> RealSweep:
    """Start all shares as the tasks of one `srun`."""
    sweep.launcher = ("srun", f"--ntasks={SHARES}", "--output=tasks.out")
    part = ("--sweep-id", sweep_id, "--share", "slurm")
    return sweep.python(*MODULE, "run", "config.json", f"{MAINS}:held", *part)


def shares_of(sweep: RealSweep, sweep_id: str) -> list[Any]:
    folders = (sweep.directory / sweep_id).glob(f"share-*-of-{SHARES}")
    return [json.loads((folder / "summary.json").read_text()) for folder in folders]


def test_shares_in_a_job_are_drained_terminated_and_completed_by_the_jobs_after_it(
    sweep: RealSweep, slurm: Slurm
) -> None:
    """Slurm signals every process of a job: what is drained cuts no run, what is terminated can go on."""
    sweep_id = sweep.create(count=COUNT, workers=1)
    start_tasks(sweep, sweep_id).wait_for(SHARES)
    slurm.call("scancel", "--signal=USR1", *slurm.jobs())
    output = sweep.folder / "tasks.out"
    sweep.wait_until(lambda: output.read_text().count("SIGUSR1: no new runs") == SHARES, "the drain")
    sweep.go()
    assert sweep.finish().code == ExitCode.RESUMABLE
    drained = {entry.run_id for entry in sweep.entries()}
    slurm.wait_for_all()

    (sweep.folder / "go").unlink()
    start_tasks(sweep, sweep_id).wait_for(2 * SHARES)
    slurm.call("scancel", *slurm.jobs())
    assert sweep.finish().code == ExitCode.SIGNAL_BASE + signal.SIGTERM
    shares = shares_of(sweep, sweep_id)
    assert [sorted(outcomes(share)) for share in shares] == [["finished", "stopped"]] * SHARES

    sweep.go()
    assert start_tasks(sweep, sweep_id).finish().code == ExitCode.COMPLETE
    shares = shares_of(sweep, sweep_id)
    assert sorted(share["finished"] for share in shares) == [2, 3]
    run_ids = {run["run_id"] for share in shares for run in share["runs"]}
    assert {entry.run_id for entry in sweep.entries()} == run_ids
    assert {entry.attempt for entry in sweep.entries() if entry.run_id in drained} == {1}
