"""Whole sweeps on many machines, led from here: machines are folders, each with a node of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.errors import ExitCode
from tests.processes.conftest import MAINS, RealSweep


@pytest.fixture
def machines(tmp_path: Path) -> Path:
    return tmp_path / "machines"


def add(machines: Path, *names: str, broken: bool = False) -> None:
    for name in names:
        (machines / name).mkdir(parents=True)
        if broken:
            (machines / name / "broken").touch()


def lead(sweep: RealSweep, machines: Path, main: str, *, resume: str = "", **section: object) -> RealSweep:
    """Start a head on these machines."""
    import json

    from tests.processes.conftest import RANDOM

    config = sweep.folder / "config.json"
    keys = {"directory": str(sweep.directory), "sweep_configuration": RANDOM, "workers": 1}
    keys |= {"machines": {"node_timeout_s": 6.0}}
    config.write_text(json.dumps({"hpo": keys | section}))
    more = [resume] if resume else []
    return sweep.start_command(
        "-m", "tests.processes.heading", str(config), f"{MAINS}:{main}", str(machines), *more
    )


def test_a_sweep_ends_where_no_machine_can_run_a_node_and_says_why(sweep: RealSweep, machines: Path) -> None:
    add(machines, "gpu1", broken=True)
    ended = lead(sweep, machines, "brief", count=2).finish()
    assert ended.code == ExitCode.FAILURE_POLICY, ended.stderr
    assert "no torch on this machine" in ended.summary["stop_reason"]
    assert ended.summary["attempted"] == 0
