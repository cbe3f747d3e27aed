"""Sweeps on devices: masks of missing devices, and a fake driver that reports eight.

A machine without a driver takes a mask's tokens as they are.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from parallel_hpo.devices.library import NoDriver, opened
from parallel_hpo.devices.placing import open_driver
from tests.devices.fakes import COMPILER, UUIDS, WHY_NO_COMPILER, build_driver
from tests.processes.conftest import RealSweep, outcomes

DRAWS_KW: Final = 0.25
"""The power of device 3 that the fake driver reports."""

with opened(open_driver) as known:
    without_driver = pytest.mark.skipif(
        not isinstance(known, NoDriver), reason="the driver here knows that the devices below are made up"
    )
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="logind is Linux's, and so is ionice")


def masks(sweep: RealSweep) -> set[tuple[int, str]]:
    """Return each slot's mask as its runs saw it."""
    return {(entry.slot, entry.facts["environment"]["CUDA_VISIBLE_DEVICES"]) for entry in sweep.entries()}


@without_driver
def test_each_worker_sees_exactly_its_own_device_even_after_a_restart(sweep: RealSweep) -> None:
    sweep.env["CUDA_VISIBLE_DEVICES"] = f"3,{UUIDS[5]}"
    ended = sweep.start("dying_once", count=4, restart={"backoff_s": 0.1}).finish_all(4)
    assert masks(sweep) == {(0, "3"), (1, UUIDS[5])}
    assert all(worker["restarts"] >= 1 for worker in ended.summary["workers"])
    assert [worker["device"] for worker in ended.summary["workers"]] == ["3", UUIDS[5]]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables by which processes find the fake driver."""
    if sys.platform != "linux" or COMPILER is None:
        pytest.skip(WHY_NO_COMPILER)
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driven(sweep: RealSweep, driver: dict[str, str]) -> RealSweep:
    """A sweep whose processes find the fake driver."""
    sweep.env |= driver | {"FAKE_NVML": str(sweep.folder / "process")}
    return sweep


def test_a_device_is_reused_once_a_dead_runs_memory_is_free_and_both_attempts_are_counted(
    driven: RealSweep,
) -> None:
    driven.start("computing", count=1, workers=1, devices=[3])
    (dead,) = driven.wait_for(1, "computing")
    driven.wait_until(lambda: not psutil.pid_exists(dead.pid), "the death of the run's process")
    assert len(driven.entries()) == 1
    Path(driven.env["FAKE_NVML"]).write_text("")
    ended = driven.finish()
    assert outcomes(ended.summary) == ["finished"], ended.stderr
    assert [entry.facts["held"] for entry in driven.entries()] == ["", ""], "it began while the dead one held"
    (run,) = ended.summary["runs"]
    used = run["consumption"]
    assert used["device_hours"] == pytest.approx(run["duration_s"] / 3600, rel=0.2)
    assert used["device_kwh"] == pytest.approx(used["device_hours"] * DRAWS_KW, rel=0.05)
    (told,) = driven.ask_json("status")
    assert {name: told[name] for name in used} == used


def test_workers_share_a_device_by_memory_and_a_run_out_of_memory_is_rerun_alone(driven: RealSweep) -> None:
    options: dict[str, Any] = {"workers": 4, "workers_per_device": "auto", "devices": [3], "retries": 0}
    ended = driven.start("holding", count=16, **options).finish_all(16)
    assert "device 3 takes 3 workers at a time: its first runs held 24000 of 81920 MB" in ended.stderr
    assert max(len(entry.facts["others"]) for entry in driven.entries()) == 2
    (again,) = [entry for entry in driven.entries() if entry.attempt == 2]
    assert again.facts["others"] == []


LOGINCTL: Final = """#!/bin/sh
case "$1" in
    list-sessions) echo "  c1 1000 ada seat0 tty2" ;;
    show-session) cat "$SESSION" ;;
esac
"""


@pytest.fixture
def seat(sweep: RealSweep) -> Path:
    """What logind reports of the only session of the sweep's machine; at first that it is idle."""
    commands, session = sweep.folder / "commands", sweep.folder / "session"
    commands.mkdir()
    (commands / "loginctl").write_text(LOGINCTL)
    (commands / "loginctl").chmod(0o755)
    sweep.env |= {"PATH": f"{commands}:{sweep.env['PATH']}", "SESSION": str(session)}
    return sit(session, idle=True)


def sit(session: Path, *, idle: bool) -> Path:
    known = "Name=ada\nSeat=seat0\nState=active\nClass=user\nLockedHint=no\n"
    session.write_text(f"{known}IdleHint={'yes' if idle else 'no'}\n")
    return session


@on_linux
def test_a_polite_sweep_has_the_lowest_priority_and_waits_while_another_user_is_active(
    sweep: RealSweep, seat: Path
) -> None:
    sweep.start("polite", count=2, workers=1, devices="cpu", polite=True)
    (entry,) = sweep.wait_for(1)
    idle_class = "3"
    assert (entry.facts["nice"], entry.facts["child"]) == (19, ["19", idle_class])
    sit(seat, idle=False)
    sweep.read_until("this machine gets no run while the session of ada is active")
    sweep.go()
    sweep.wait_until(
        lambda: "finished" in {run.state for run in sweep.runs_on_the_server().values()}, "its end"
    )
    sweep.signal(signal.SIGINT)
    assert outcomes(sweep.finish().summary) == ["finished"]
