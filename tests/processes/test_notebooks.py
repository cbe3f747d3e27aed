"""Sweeps that a notebook starts: in a real kernel, which is interrupted as notebooks are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes.conftest import RANDOM

SETUP: Final = """
import os, signal, threading, time
from pathlib import Path
import wandb
from parallel_hpo import HPO

folder = Path("inside")

def main():
    with wandb.init() as run:
        (folder / run.id).touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
        run.log({"loss": run.config["x"]})

def wait_until_inside(number):
    while len([each for each in folder.iterdir() if each.name != "go"]) < number:
        time.sleep(0.02)

def press_stop():
    wait_until_inside(2)
    os.killpg(0, signal.SIGINT)  # what the stop button does

folder.mkdir()
folder = folder.absolute()
place = {"backend": "local", "directory": "sweeps"}
hpo = HPO.from_dict({"count": 4, "workers": 2, "sweep_configuration": RANDOM, **place})
"""
"""A notebook's first cell: runs write to `folder` that they are inside `main`, and wait there for `go`."""
GO: Final = "(folder / 'go').touch()"
EXECUTE: Final = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.execute(notebook, timeout=120, allow_errors=True)
nbformat.write(notebook, sys.argv[1])
"""


@pytest.fixture
def executed(tmp_path: Path, clean_env: dict[str, str]) -> Any:
    """Returns the output of cells after the first one (nbclient leaves sockets open, so it has a process)."""

    def execute(*cells: str) -> list[list[Any]]:
        made: list[dict[str, Any]] = [
            {"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
            for cell in (f"RANDOM = {RANDOM}\n{SETUP}", *cells)
        ]
        path = tmp_path / "notebook.ipynb"
        path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
        words = [sys.executable, "-c", EXECUTE, str(path)]
        ended = subprocess.run(words, env=clean_env, cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return [cell["outputs"] for cell in json.loads(path.read_text())["cells"]][1:]

    return execute


def printed(outputs: list[Any]) -> str:
    return "".join("".join(out["text"]) for out in outputs if out.get("name") == "stdout")


def test_after_an_interrupt_a_notebook_shows_another_sweep_in_the_cell_that_started_it(
    executed: Any, tmp_path: Path
) -> None:
    stopped, *outputs, evaluated = executed(
        "threading.Thread(target=press_stop).start()\nhpo.optimize(main)",
        "handle = hpo.start(main)\nprint(handle.done())",
        f"wait_until_inside(4)\n{GO}\nprint(handle.result().finished)",
        "print(handle.best.value == min(run.value for run in handle.runs))",
        "print(handle.runs == handle.result().runs)",
        "handle",
    )
    assert [out["ename"] for out in stopped if out["output_type"] == "error"] == ["KeyboardInterrupt"]
    assert [printed(each) for each in outputs] == ["False\n", "4\n", "True\n", "True\n"]
    shown = [["".join(out["data"]["text/plain"]) for out in each if "data" in out] for each in outputs]
    assert [len(each) for each in shown] == [1, 0, 0, 0]
    assert shown[0][0].startswith("4 runs in ")
    (started,) = (out["data"] for out in outputs[0] if "data" in out)
    assert evaluated[0]["data"]["text/html"] == started["text/html"]
    assert "<path" in "".join(started["text/html"])
    summaries = [json.loads(path.read_text()) for path in (tmp_path / "sweeps").glob("*/summary.json")]
    assert sorted(summary["stop_reason"] for summary in summaries) == ["SIGINT", "all 4 runs performed"]
