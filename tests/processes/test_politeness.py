"""Sweeps on a machine that people sit at: real processes that give way, to owners who come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from parallel_hpo.devices.sharing import FREE_AFTER_S
from tests.devices.driver import COMPILER, WHY_NO_COMPILER, build_driver
from tests.processes.conftest import RealSweep, outcomes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="logind is Linux's, and so is ionice")
LOGINCTL = """#!/bin/sh
case "$1" in
    list-sessions) echo "  c1 1000 ada seat0 tty2" ;;
    show-session) cat "$SESSION" ;;
esac
"""


@pytest.fixture
def seat(sweep: RealSweep, tmp_path: Path) -> Path:
    """What logind is to say of the only session of the sweep's machine; at first that it is idle."""
    commands, session = tmp_path / "commands", tmp_path / "session"
    commands.mkdir()
    (commands / "loginctl").write_text(LOGINCTL)
    (commands / "loginctl").chmod(0o755)
    sweep.env |= {"PATH": f"{commands}:{sweep.env['PATH']}", "SESSION": str(session)}
    return sit(session, idle=True)


def sit(session: Path, *, idle: bool) -> Path:
    known = "Name=ada\nSeat=seat0\nState=active\nClass=user\nLockedHint=no\n"
    session.write_text(f"{known}IdleHint={'yes' if idle else 'no'}\n")
    return session


def test_workers_and_what_they_start_have_the_least_priority(sweep: RealSweep, seat: Path) -> None:
    ended = sweep.start("polite", count=1, workers=1, devices="cpu", polite=True).finish()
    assert outcomes(ended.summary) == ["finished"], ended.stderr
    (entry,) = sweep.entries()
    idle_class = "3"
    assert (entry.facts["nice"], entry.facts["child"]) == (19, ["19", idle_class])


@pytest.mark.thorough
def test_a_sweep_waits_while_somebody_sits_at_the_machine(sweep: RealSweep, seat: Path) -> None:
    sit(seat, idle=False)
    sweep.start("polite", count=1, workers=1, devices="cpu", polite=True)
    sweep.read_until("this machine gets no run while the session of ada is active")
    assert not sweep.comes(sweep.entries, within_s=1.0)
    sit(seat, idle=True)
    sweep.read_until("this machine is free again")
    assert outcomes(sweep.finish().summary) == ["finished"]


@pytest.mark.thorough
@pytest.mark.skipif(COMPILER is None, reason=WHY_NO_COMPILER)
def test_a_device_is_left_to_its_owner_and_joined_again(sweep: RealSweep, seat: Path, tmp_path: Path) -> None:
    """What runs there finishes, the others go on, and the count is exact."""
    sweep.env |= build_driver(tmp_path) | {"EACH_S": f"{FREE_AFTER_S / 2}"}
    sweep.start("polite", count=7, devices=[3, 5], polite=True).wait_for(2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        Path(sweep.env["FAKE_NVML"]).write_text(str(owner.pid))
        sweep.read_until(f"device 3 gets no run while process {owner.pid} computes on it")
        sweep.wait_for(3)
        owner.communicate(b"\n")
    Path(sweep.env["FAKE_NVML"]).write_text("")
    sweep.read_until("device 3 is free again")
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 7), ended.stderr
    devices = [entry.facts["device"] for entry in sweep.entries()]
    assert (sorted(devices[:2]), devices[2:4]) == (["3", "5"], ["5", "5"])
    assert "3" in devices[4:]
