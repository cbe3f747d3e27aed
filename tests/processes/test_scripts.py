"""Scripts that start sweeps: as strangers write them, as the README does, and as they go on meanwhile."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.processes.conftest import RANDOM, RealSweep, expect_gone, outcomes

HERE: Final = Path(__file__).parent
STRANGER: Final = HERE / "stranger.py"
SNIPPET: Final = (HERE.parents[1] / "README.md").read_text().split("## Use\n\n```python\n")[1].split("```")[0]
README: Final = f"""
import multiprocessing, sys
sys.path.insert(0, {str(HERE)!r})
from mains import enter

def helper():
    return 1

def main():
    multiprocessing.get_context('spawn').Pool(1).apply(helper)
    enter(hpo=repr(hpo), argv=sys.argv[1:]).log({{"loss": 1}})

{SNIPPET}
"""
NOTEBOOK: Final = """
import sys, types
sys.modules["__main__"] = module = types.ModuleType("__main__")
exec(compile(open("stranger.py").read(), "<cell 1>", "exec"), vars(module))
"""


@pytest.mark.parametrize("way", ["file", "module", "command", "input", "notebook"])
def test_a_script_finds_in_its_workers_what_it_defines(sweep: RealSweep, way: str) -> None:
    sweep.configure(workers=1, count=1)
    shutil.copy(STRANGER, sweep.folder / "stranger.py")
    (sweep.folder / "package").mkdir()
    shutil.copy(STRANGER, sweep.folder / "package" / "script.py")
    sweep.env["METHODS"] = {"file": "spawn", "module": "forkserver"}.get(way, "")
    if way == "input":
        sweep.launcher = ("sh", "-c", 'exec "$@" < stranger.py', "sh")
    words = {
        "file": ("stranger.py",),
        "module": ("-m", "package.script"),
        "command": ("-c", STRANGER.read_text()),
        "input": ("-",),
        "notebook": ("-c", NOTEBOOK),
    }[way]
    ended = sweep.python(*words, "--lr", "0.25").finish()
    assert (ended.code, ended.summary["best"]["value"]) == (0, 0.25), ended.stderr


def test_the_readmes_snippet_is_a_target_and_a_script_without_a_guard(sweep: RealSweep) -> None:
    config = sweep.configure(workers=1, count=1)
    (sweep.folder / "train.py").write_text(README)
    target = sweep.run("run", config, "train:main", "--", "--fast").finish()
    assert (target.code, target.summary["finished"]) == (0, 1), target.stderr
    assert [entry.facts["argv"] for entry in sweep.entries()] == [["--fast"]]
    script = sweep.python("train.py").finish()
    assert (script.code, len(sweep.entries())) == (0, 2), script.stderr
    assert {entry.facts["hpo"] for entry in sweep.entries()} == {"None"}


PROGRAM: Final = f"""
import os, signal, sys, time
sys.path.insert(0, {str(HERE)!r})
from mains import brief, sleeper
from parallel_hpo import HPO, load

hpo = HPO.from_dict(
    {{"workers": 2, "count": 4, "sweep_configuration": {RANDOM!r}, "directory": "sweeps"}}
)

def start(main):
    handle = hpo.start(main)
    while len(handle.runs) < 2:
        time.sleep(0.02)
    return handle

"""


def start(sweep: RealSweep, source: str) -> RealSweep:
    (sweep.folder / "script.py").write_text(PROGRAM + source)
    return sweep.python("script.py")


def test_a_script_goes_on_beside_its_sweep_and_sees_how_far_it_is(sweep: RealSweep) -> None:
    ended = start(
        sweep,
        "handle = start(brief)\n"
        "print(handle.done(), {run.outcome for run in handle.runs} <= {'open', 'finished'})\n"
        "result = handle.result()\n"
        "print(handle.done(), handle.best == result.best, handle.runs == result.runs)\n"
        "print(load(result.sweep_id, directory='sweeps') == result)\n",
    ).finish()
    assert ended.stdout.splitlines() == ["False True", "True True True", "True"], ended.stderr
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 4)


@pytest.mark.parametrize(
    ("leaves", "code"),
    [("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGINT); handle.result()", -signal.SIGINT)],
)
def test_a_script_that_leaves_stops_its_sweep_in_order(sweep: RealSweep, leaves: str, code: int) -> None:
    ended = start(sweep, f"handle = start(sleeper)\n{leaves}\n").finish()
    assert (ended.code, outcomes(ended.summary)) == (code, ["stopped"] * 2), ended.stderr
    assert ended.summary["stop_reason"] == "interrupt asked by the program"


def test_a_killed_script_leaves_nothing(sweep: RealSweep) -> None:
    start(sweep, "start(sleeper).result()\n").wait_for(2)
    processes = sweep.tree()
    sweep.signal(signal.SIGKILL)
    assert sweep.finish().code == -signal.SIGKILL
    expect_gone(processes)


def test_optimize_resumes_a_sweep(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=4).wait_for(2)
    sweep.signal(signal.SIGINT)
    sweep.finish()
    ended = start(sweep, f"print(hpo.optimize(brief, resume={sweep.sweep_id!r}).finished)").finish()
    assert (ended.stdout, outcomes(ended.summary)) == ("4\n", ["finished"] * 4), ended.stderr
