"""Scripts that start sweeps: a stranger's, the README's, and one that leaves before the end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.processes.conftest import RANDOM, RealSweep, outcomes

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


@pytest.mark.parametrize("way", ["file", "module", "notebook"])
def test_a_script_finds_in_its_workers_what_it_defines(sweep: RealSweep, way: str) -> None:
    sweep.configure(workers=1, count=1)
    shutil.copy(STRANGER, sweep.folder / "stranger.py")
    (sweep.folder / "package").mkdir()
    shutil.copy(STRANGER, sweep.folder / "package" / "script.py")
    sweep.env["METHODS"] = {"file": "spawn", "module": "forkserver"}.get(way, "")
    words = {"file": ("stranger.py",), "module": ("-m", "package.script"), "notebook": ("-c", NOTEBOOK)}[way]
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


LEAVING: Final = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
from mains import sleeper
from parallel_hpo import HPO

hpo = HPO.from_dict({{"workers": 2, "sweep_configuration": {RANDOM!r}, "directory": "sweeps"}})
handle = hpo.start(sleeper)
while len(handle.runs) < 2:
    time.sleep(0.02)
sys.exit(3)
"""


def test_a_script_that_leaves_stops_its_sweep_in_order(sweep: RealSweep) -> None:
    (sweep.folder / "script.py").write_text(LEAVING)
    ended = sweep.python("script.py").finish()
    assert (ended.code, outcomes(ended.summary)) == (3, ["stopped"] * 2), ended.stderr
    assert ended.summary["stop_reason"] == "interrupt asked by the program"
