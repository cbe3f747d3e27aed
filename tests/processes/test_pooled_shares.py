"""Shares of a sweep that has a pool: what is left of one is on no disk that could vanish."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.commanding import CommandLine
from tests.processes.conftest import RealSweep, outcomes
from tests.processes.machines import Machine, Machines, machines_on_a_server


@pytest.fixture
def machines(sweep: RealSweep, commands: CommandLine, tmp_path: Path) -> Iterator[Machines]:
    with machines_on_a_server(sweep, commands, tmp_path) as made:
        yield made


def summary(machines: Machines, machine: Machine, share: str) -> Any:
    folder = machine.folder / "sweeps" / machines.sweep_id / share
    return json.loads((folder / "summary.json").read_text())


def test_a_share_whose_machine_and_disk_are_gone_goes_on_elsewhere_and_the_count_is_exact(
    machines: Machines,
) -> None:
    """1. Both shares are inside a run. 2. The first one's machine is killed and its disk wiped; the other is
    done, and leaves what the first one had. 3. The first share is launched anew, on a machine that knows
    nothing of it: it has the run that was cut short, the others of its share, and none of the other's.
    4. Launched once more there is nothing left to do.
    """
    machines.create("held", count=5, workers=1)
    lost, other = machines.share("lost", "1/2", "held"), machines.share("other", "2/2", "held")
    machines.wait_until(lambda: machines.entries(lost) and machines.entries(other), "a run of each")
    cut = machines.entries(lost)[0].run_id
    lost.signal(signal.SIGKILL)
    lost.finish()
    shutil.rmtree(lost.folder)
    machines.go()
    code, said = other.finish()
    assert code == ExitCode.COMPLETE, said
    assert outcomes(summary(machines, other, "share-2-of-2")) == ["finished"] * 2

    anew = machines.share("anew", "1/2", "held")
    code, said = anew.finish()
    assert code == ExitCode.COMPLETE, said
    assert machines.disagreements() == []
    known = summary(machines, anew, "share-1-of-2")
    assert outcomes(known) == ["finished"] * 3
    assert {run["run_id"]: run["attempts"] for run in known["runs"]}[cut] == 2
    assert known["count"] == 3

    code, said = machines.share("anew", "1/2", "held").finish()
    assert code == ExitCode.COMPLETE, said
    assert outcomes(summary(machines, anew, "share-1-of-2")) == ["finished"] * 3


def test_a_share_of_another_count_than_the_sweeps_is_refused(machines: Machines) -> None:
    machines.create("quick", count=5)
    config = machines.folder / "config.json"
    config.write_text(config.read_text().replace('"count": 5', '"count": 6'))
    code, said = machines.share("one", "1/2", "quick").finish()
    assert code == ExitCode.USAGE
    assert "--share 1/2 of 6 runs: the sweep was created with a count of 5" in said
