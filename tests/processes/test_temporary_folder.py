"""Nothing of a sweep is left in the temporary folder: not at its end, nor after kills and a next start."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest

from tests.processes.conftest import ANEW, DEADLINE_S, RealSweep

pytestmark = pytest.mark.thorough


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_sweep_that_ends_leaves_nothing(sweep: RealSweep, temporary: Path) -> None:
    sweep.launcher = ANEW  # imports make folders, too
    assert sweep.start("quick", count=2, workers=2, start_method="spawn").finish().code == 0
    assert left_in(temporary) == []


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_what_a_sweep_leaves_that_is_killed_as_a_whole_goes_with_the_next_start(
    sweep: RealSweep, temporary: Path, start_method: str
) -> None:
    sweep.launcher = ANEW
    sweep.start("sleeper", count=1, workers=1, start_method=start_method).wait_for(1)
    processes = sweep.tree()
    for process in processes:
        process.suspend()  # else one would clear up after another
    for process in processes:
        process.kill()
    assert sweep.process is not None
    sweep.process.communicate()
    psutil.wait_procs(processes, timeout=DEADLINE_S)
    assert left_in(temporary)
    shutil.rmtree(sweep.directory)
    assert sweep.start("quick", count=1, workers=1).finish().code == 0
    assert left_in(temporary) == []
