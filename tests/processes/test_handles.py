"""Sweeps that a script starts, and what becomes of them when it goes on, or leaves."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

import pytest

from tests.processes.conftest import RANDOM, RealSweep, outcomes

SCRIPT: Final = f"""
import os, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from mains import brief, sleeper
from parallel_hpo import HPO, load

section = {{"workers": 2, "count": 4, "sweep_configuration": {RANDOM!r}, "directory": "sweeps"}}

def inside(handle, number=2):
    while len(handle.runs) < number:
        time.sleep(0.02)
"""
STARTED: Final = "handle = HPO.from_dict(section).start(sleeper)\n"


def start(sweep: RealSweep, source: str) -> RealSweep:
    (sweep.folder / "script.py").write_text(SCRIPT + source)
    return sweep.start_command("script.py")


def test_a_script_goes_on_beside_its_sweep_and_sees_how_far_it_is(sweep: RealSweep) -> None:
    ended = start(
        sweep,
        "handle = HPO.from_dict(section).start(brief)\n"
        "print(handle.done(), handle.best, len(handle.runs))\n"
        "inside(handle)\n"
        "print({run.outcome for run in handle.runs} <= {'open', 'finished'})\n"
        "result = handle.result()\n"
        "print(handle.done(), handle.best == result.best, handle.runs == result.runs)\n"
        "print(load(result.sweep_id, directory='sweeps') == result)\n",
    ).finish()
    assert ended.code == 0, ended.stderr
    assert ended.stdout.splitlines() == ["False None 0", "True", "True True True", "True"]
    assert outcomes(ended.summary) == ["finished"] * 4


def test_a_target_whose_file_starts_a_sweep_is_loaded_and_not_run(sweep: RealSweep) -> None:
    (sweep.folder / "script.py").write_text(
        SCRIPT + "HPO.from_dict(section).start(brief).result()\nraise ValueError('was run')\n"
    )
    ended = sweep.start("brief", mains=sweep.folder / "script.py", count=1).finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"]), ended.stderr


@pytest.mark.parametrize(
    ("leaves", "code", "words"),
    [
        ("", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("raise ValueError('no good')", 1, "ValueError: no good"),
        ("os.kill(os.getpid(), signal.SIGINT); handle.result()", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_a_script_that_leaves_stops_its_sweep_in_order(
    sweep: RealSweep, leaves: str, code: int, words: str
) -> None:
    ended = start(sweep, f"{STARTED}inside(handle)\n{leaves}\n").finish()
    assert ended.code == code, ended.stderr
    assert words in ended.stderr
    assert outcomes(ended.summary) == ["stopped"] * 2
    assert ended.summary["stop_reason"] == "interrupt asked by the program"


def test_a_script_that_leaves_at_once_leaves_no_sweep(sweep: RealSweep) -> None:
    ended = start(sweep, f"{STARTED}sys.exit(3)\n").finish()
    assert ended.code == 3, ended.stderr
    assert "ended with an error" not in ended.stderr
    assert ended.summary is None or ended.summary["exit_code"] == 75


def test_a_killed_script_leaves_nothing(sweep: RealSweep) -> None:
    start(sweep, f"{STARTED}inside(handle)\nprint('inside', flush=True)\nhandle.result()\n")
    sweep.wait_for(2)
    sweep.signal(signal.SIGKILL)
    assert sweep.finish().code == -signal.SIGKILL
