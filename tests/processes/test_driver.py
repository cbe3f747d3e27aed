"""Sweeps on a machine whose driver tells of eight devices, as far as one without any can have them."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.commanding import CommandLine
from tests.devices.driver import COMPILER, WHY_NO_COMPILER, build_driver
from tests.devices.fakes import STRANGER, UUIDS
from tests.interpreter import forked_python
from tests.launching import load_libraries
from tests.processes.conftest import MAINS, RANDOM, RealSweep, outcomes

pytestmark = pytest.mark.skipif(sys.platform != "linux" or COMPILER is None, reason=WHY_NO_COMPILER)
HELD_FOR_S = 2.0
"""Several times what a new worker takes to be inside `main`."""

DRAWS_KW = 0.25
"""What the driver says of device 3."""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver's folder."""
    build_driver(folder := tmp_path_factory.mktemp("driver"))
    return folder


@pytest.fixture
def driven(sweep: RealSweep, tmp_path: Path, driver: Path) -> RealSweep:
    """A sweep whose processes have the driver at hand, as those that find it by LD_LIBRARY_PATH."""
    sweep.env["FAKE_NVML"] = str(tmp_path / "process")
    sweep.before = partial(load_libraries, *map(str, driver.iterdir()))
    return sweep


def test_workers_get_the_visible_devices_that_nobody_computes_on(driven: RealSweep) -> None:
    driven.env["CUDA_VISIBLE_DEVICES"] = f"6,{UUIDS[5][:5]},3"
    ended = driven.start("curious", count=2, workers="auto").finish()
    assert [worker["device"] for worker in ended.summary["workers"]] == [UUIDS[5][:5], "3"]
    assert f"device 6 is left out: process {STRANGER} computes on it" in ended.stderr


def test_a_device_is_handed_on_once_the_dead_runs_memory_is_free_and_both_attempts_have_used_it(
    driven: RealSweep,
) -> None:
    driven.start("computing", count=1, workers=1, devices=[3])
    (dead,) = driven.wait_for(1, "computing")
    driven.wait_until(lambda: not psutil.pid_exists(dead.pid), "the death of the run's process")
    assert not driven.comes(lambda: len(driven.entries()) > 1, within_s=HELD_FOR_S)
    Path(driven.env["FAKE_NVML"]).write_text("")
    ended = driven.finish()
    assert outcomes(ended.summary) == ["finished"]
    assert [entry.facts["held"] for entry in driven.entries()] == ["", ""]
    (run,) = ended.summary["runs"]
    used = run["consumption"]
    assert used["device_hours"] == pytest.approx(run["duration_s"] / 3600, rel=0.2)
    assert used["device_kwh"] == pytest.approx(used["device_hours"] * DRAWS_KW, rel=0.05)
    assert ended.summary["consumption"] == used
    assert "used: " in ended.stderr and " kWh of devices" in ended.stderr
    status = driven.start_command(
        "-m", "parallel_hpo", "status", "--json", "--directory", str(driven.directory)
    )
    (told,) = json.loads(status.finish().stdout)
    assert {name: told[name] for name in used} == used


def test_workers_share_a_device_as_its_memory_allows_and_a_run_that_finds_too_little_is_run_again_alone(
    driven: RealSweep,
) -> None:
    options: dict[str, Any] = {"workers": 4, "workers_per_device": "auto", "devices": [3], "retries": 0}
    ended = driven.start("holding", count=16, **options).finish()
    assert outcomes(ended.summary) == ["finished"] * 16, ended.stderr
    assert "device 3 takes 3 workers at a time: its first runs held 24000 of 81920 MB" in ended.stderr
    assert "as one of 3 workers" in ended.stderr
    first, second, *_ = driven.entries()
    assert first.facts["others"] == second.facts["others"] == []
    assert max(len(entry.facts["others"]) for entry in driven.entries()) == 2
    (again,) = [entry for entry in driven.entries() if entry.attempt == 2]
    assert again.facts["others"] == []
    assert {worker["device"] for worker in ended.summary["workers"]} == {"3"}


def test_the_doctor_has_a_line_for_each_device(driven: RealSweep) -> None:
    ended = driven.start_command("-m", "parallel_hpo", "doctor", "--json").finish()
    subjects = {finding["subject"] for finding in json.loads(ended.stdout)["findings"]}
    assert {f"device {number}" for number in range(8)} <= subjects


def test_the_example_script_gives_each_share_devices_of_its_own(
    driven: RealSweep, commands: CommandLine
) -> None:
    """Three devices for two shares: what one launch alone would use, 6 being somebody else's."""
    has_driver, driven.before = driven.before, None
    config = driven.folder / "config.json"
    section = {"count": 3, "directory": str(driven.directory), "sweep_configuration": RANDOM}
    config.write_text(json.dumps({"hpo": section}))
    driven.env["CUDA_VISIBLE_DEVICES"] = "1,6,3,5"
    driven.launcher = ("bash", str(Path(__file__).parents[2] / "scripts" / "batch" / "shares.sh"))
    with forked_python(commands, has_driver) as python:
        driven.env["PATH"] = f"{python}:{driven.env['PATH']}"
        ended = driven.start_command("2", str(config), f"{MAINS}:quick").finish()
    assert ended.code == 0, ended.stderr
    shares = [json.loads(path.read_text()) for path in driven.directory.glob("*/share-*/summary.json")]
    devices = [[worker["device"] for worker in share["workers"]] for share in shares]
    assert sorted(devices) == [["1", "5"], ["3"]]
    assert sum(share["finished"] for share in shares) == 3
