"""Whole sweeps on real clusters by the command that a user gives: on Slurm; `test_ray` has that on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.processes.conftest import RealSweep
from tests.slurm import NoSlurmError, running_slurm
from tests.spares import FORK_SERVER, HOST, SERVER

COUNT: Final = 6


def expect_exact(sweep: RealSweep, **engine: Any) -> None:
    """Both machines, with two workers each, perform the count, each run once."""
    sweep.starts = (SERVER, FORK_SERVER, HOST)
    sweep.start("held", count=COUNT, machines=engine)
    sweep.wait_for(4)  # before it the machine that is there first could perform them all
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert ended.code == ExitCode.COMPLETE, ended.stderr
    assert ended.summary["finished"] == COUNT
    assert sum(machine["runs"] for machine in ended.summary["machines"]) == COUNT
    assert len(ended.summary["machines"]) == 2
    assert len({entry.run_id for entry in sweep.entries()}) == len(sweep.entries()) == COUNT


def test_a_sweep_on_the_jobs_of_slurm(sweep: RealSweep, tmp_path: Path) -> None:
    folder = tmp_path / "slurm"
    folder.mkdir()
    try:
        with running_slurm(folder, sweep.env, ("m1", "m2")) as slurm:
            sweep.env |= slurm.variables
            expect_exact(sweep, engine="slurm", count=2)
    except NoSlurmError as error:
        pytest.skip(str(error))
