"""Scripts of strangers, run as strangers run them."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes.conftest import RANDOM, RealSweep

STRANGER: Final = Path(__file__).with_name("stranger.py")
README: Final = (Path(__file__).parents[2] / "README.md").read_text()
SNIPPET: Final = README.split("## Use\n\n```python\n")[1].split("```")[0]
SCRIPT: Final = f"""
import multiprocessing, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
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


def configure(sweep: RealSweep, **keys: Any) -> None:
    section = {"directory": str(sweep.directory), "sweep_configuration": RANDOM, "workers": 1, "count": 1}
    (sweep.folder / "config.json").write_text(json.dumps({"hpo": section | keys}))


def written(sweep: RealSweep, path: str, source: str) -> None:
    file = sweep.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)


@pytest.mark.parametrize("way", ["file", "module", "command", "input", "notebook"])
def test_a_script_finds_in_its_workers_what_it_defines(sweep: RealSweep, way: str) -> None:
    configure(sweep, count=2 if way == "file" else 1)
    shutil.copy(STRANGER, sweep.folder / "stranger.py")
    written(sweep, "package/script.py", STRANGER.read_text())
    sweep.env["METHODS"] = {"file": "spawn", "module": "forkserver"}.get(way, "")
    if way == "input":
        sweep.launcher = ("sh", "-c", 'exec "$0" "$@" < stranger.py', sys.executable)
    words = {
        "file": ("stranger.py",),
        "module": ("-m", "package.script"),
        "command": ("-c", STRANGER.read_text()),
        "input": ("-",),
        "notebook": ("-c", NOTEBOOK),
    }[way]
    ended = sweep.start_command(*words, "--lr", "0.25").finish()
    assert ended.code == 0, ended.stderr
    assert [run["reason"] for run in ended.summary["runs"]] == [""] * ended.summary["count"]
    assert ended.summary["best"]["value"] == 0.25


def test_the_snippet_of_the_readme_is_a_target(sweep: RealSweep) -> None:
    configure(sweep)
    written(sweep, "project/train.py", f"{SCRIPT}\nprint(result.attempted)\n")
    sweep.launcher = (sys.executable, str(Path(sysconfig.get_path("scripts"), "parallel-hpo")))
    words = ("run", "config.json", "project.train:main", "--count", "2")
    ended = sweep.start_command(*words, "--", "--fast").finish()
    assert ended.code == 0, ended.stderr
    assert ended.summary["finished"] == 2
    entered = sweep.entries()
    assert [entry.facts["hpo"] for entry in entered] == ["None", "None"]
    assert [entry.facts["argv"] for entry in entered] == [["--fast"]] * 2


def test_the_snippet_of_the_readme_without_a_guard_may_start_processes_anew(sweep: RealSweep) -> None:
    configure(sweep)
    written(sweep, "train.py", SCRIPT)
    ended = sweep.start_command("train.py").finish()
    assert ended.code == 0, ended.stderr
    assert ended.summary["finished"] == 1
    assert len(sweep.entries()) == 1
