"""Sweeps on devices, in real processes: what each worker sees, also after restarts.

A machine without a driver takes a mask's tokens as they are, so none is needed here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.devices.library import NoDriver, opened
from parallel_hpo.devices.placing import open_driver
from tests.commanding import CommandLine
from tests.interpreter import forked_python
from tests.processes.conftest import MAINS, RANDOM, RealSweep, outcomes

with opened(open_driver) as driver:
    pytestmark = pytest.mark.skipif(
        not isinstance(driver, NoDriver), reason="the driver here knows that the devices below are made up"
    )
UUIDS = ("GPU-aaaa1111", "GPU-bbbb2222")


def masks(sweep: RealSweep) -> set[tuple[int, str, str]]:
    """Return each slot's mask and device as its runs saw them."""
    return {
        (
            entry.slot,
            entry.facts["environment"]["CUDA_VISIBLE_DEVICES"],
            entry.facts["environment"]["PARALLEL_HPO_DEVICE"],
        )
        for entry in sweep.entries()
    }


@pytest.mark.parametrize("tokens", [("3", "5"), UUIDS])
def test_each_worker_sees_exactly_its_own_device_also_after_restarts(
    sweep: RealSweep, tokens: tuple[str, str]
) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = ",".join(tokens)
    ended = sweep.start("dying_once", count=4, restart={"backoff_s": 0.1}).finish()
    assert outcomes(ended.summary) == ["finished"] * 4, ended.stderr
    assert masks(sweep) == {(0, tokens[0], tokens[0]), (1, tokens[1], tokens[1])}
    assert all(worker["restarts"] >= 1 for worker in ended.summary["workers"])
    assert [worker["device"] for worker in ended.summary["workers"]] == list(tokens)
    assert {run["device"] for run in ended.summary["runs"]} == set(tokens)


def test_workers_is_by_default_the_number_of_devices(sweep: RealSweep) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = "3,5,7"
    ended = sweep.start("together", count=3, workers="auto").finish()
    assert [worker["device"] for worker in ended.summary["workers"]] == ["3", "5", "7"]


def test_workers_on_cpu_see_no_device(sweep: RealSweep) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = "3,5"
    ended = sweep.start("curious", count=1, workers=1, devices="cpu").finish()
    assert masks(sweep) == {(0, "", "cpu")}
    assert [worker["device"] for worker in ended.summary["workers"]] == [None]


def test_a_worker_with_two_devices_sees_both_and_has_a_port_of_its_own(sweep: RealSweep) -> None:
    sweep.env |= {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "MASTER_PORT": "29500"}
    sweep.start("together", count=2, devices_per_worker=2).finish()
    found = {entry.slot: entry.facts["environment"] for entry in sweep.entries()}
    assert {slot: environment["CUDA_VISIBLE_DEVICES"] for slot, environment in found.items()} == {
        0: "0,1",
        1: "2,3",
    }
    ports = {environment["MASTER_PORT"] for environment in found.values()}
    assert len(ports | {"29500"}) == 3


def test_spawned_workers_see_their_device_too(sweep: RealSweep) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = "3,5"
    sweep.start("together", count=2, start_method="spawn").finish()
    assert masks(sweep) == {(0, "3", "3"), (1, "5", "5")}


def test_the_fork_server_sees_no_workers_mask(sweep: RealSweep) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = "3,5"
    sweep.start("brief", count=2).wait_for(1)
    environment = sweep.process_named("parallel_hpo.worker.forkserver").environ()
    assert environment["CUDA_VISIBLE_DEVICES"] == "3,5"
    assert "PARALLEL_HPO_DEVICE" not in environment
    sweep.finish()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"workers": 3}, "hpo.workers is 3"),
        ({"preload": ["nonsuch_module"]}, "No module named 'nonsuch_module'"),
    ],
)
def test_what_the_devices_can_not_give_is_exit_2_and_no_sweep(
    sweep: RealSweep, keys: dict[str, Any], words: str
) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = "3,5"
    ended = sweep.start("quick", count=2, **keys).finish()
    assert ended.code == 2
    assert words in ended.stderr
    assert not list(sweep.directory.glob("*/ledger.db"))


def test_what_is_preloaded_is_imported_once_and_not_in_each_worker(sweep: RealSweep, tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(
        "import os\nopen(os.environ['JOURNAL'] + '.imports', 'a').write(f'{os.getpid()}\\n')\n"
    )
    sweep.start("preloaded", count=2, preload=["counted"]).finish()
    assert len(Path(f"{sweep.journal}.imports").read_text().split()) == 1
    assert {entry.facts["loaded"] for entry in sweep.entries()} == {True}


def test_a_failure_that_breaks_the_process_has_it_replaced(sweep: RealSweep) -> None:
    ended = sweep.start("out_of_memory", count=2, workers=1, failures={"max_initial": None}).finish()
    assert outcomes(ended.summary) == ["failed"] * 2
    assert len({entry.pid for entry in sweep.entries()}) == 2


def test_the_users_own_rules_say_what_a_failure_asks_for(sweep: RealSweep) -> None:
    rules = [{"pattern": "out of memory", "action": "keep"}]
    sweep.start("out_of_memory", count=2, workers=1, failures={"max_initial": None}, faults=rules).finish()
    assert len([entry.pid for entry in sweep.entries()]) == 2
    assert len({entry.pid for entry in sweep.entries()}) == 1


def test_a_device_on_which_runs_keep_failing_is_left_to_itself_and_the_other_goes_on(
    sweep: RealSweep,
) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = "3,5"
    ended = sweep.start("fails_on_device_3", count=16, failures={"max_initial": None}).finish()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.count("device 3 gets no runs for 300 s") == 1
    devices = [entry.facts["device"] for entry in sweep.entries()]
    assert len(devices) == 16
    assert (
        3 <= devices.count("3") <= 5
    )  # three failures, and what was under way or came before the first success
    assert devices[-4:] == ["5"] * 4


def test_a_program_sees_its_workers_device_too(sweep: RealSweep, commands: CommandLine) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = "3,5"
    code = f"import sys; sys.path.insert(0, {str(MAINS.parent)!r}); import mains; mains.together()"
    program = {"command": ["${interpreter}", "-c", code], **RANDOM}
    config = sweep.folder / "config.json"
    section = {"count": 2, "directory": str(sweep.directory), "sweep_configuration": program}
    config.write_text(json.dumps({"hpo": section}))
    with forked_python(commands) as python:
        sweep.env["PATH"] = f"{python}:{sweep.env['PATH']}"
        ended = sweep.start_command("-m", "parallel_hpo", "run", str(config)).finish()
    assert ended.code == 0, ended.stderr
    assert masks(sweep) == {(0, "3", "3"), (1, "5", "5")}


def test_a_dry_run_says_which_worker_gets_what(sweep: RealSweep) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = "3,5"
    config = sweep.folder / "config.json"
    section = {"sweep_configuration": {"method": "random", "parameters": {"x": {"values": [1, 2]}}}}
    config.write_text(json.dumps({"hpo": section | {"directory": str(sweep.directory)}}))
    ended = sweep.start_command(
        "-m", "parallel_hpo", "run", str(config), f"{MAINS}:quick", "--dry-run"
    ).finish()
    assert "workers: 2 on devices 3 / 5" in ended.stderr
    assert "CUDA_VISIBLE_DEVICES=3\n" in ended.stderr
