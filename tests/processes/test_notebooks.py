"""Sweeps that a notebook starts: in a real kernel, which is interrupted and killed as notebooks are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes.kernels import Kernel, running_kernel, runs_inside, setup_cell

GO: Final = "(folder / 'go').touch()"
EXECUTE: Final = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.execute(notebook, timeout=120)
nbformat.write(notebook, sys.argv[1])
"""


@pytest.fixture
def kernel(tmp_path: Path, clean_env: dict[str, str]) -> Iterator[Kernel]:
    with running_kernel(tmp_path, clean_env) as started:
        yield started


def executed(cells: list[str], path: Path, env: dict[str, str]) -> list[list[Any]]:
    """Return the output of a notebook's cells, by nbclient in a process: it leaves sockets open."""
    made: list[dict[str, Any]] = [
        {"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
        for cell in cells
    ]
    path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    words = [sys.executable, "-c", EXECUTE, str(path)]
    ended = subprocess.run(words, env=env, cwd=path.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return [cell["outputs"] for cell in json.loads(path.read_text())["cells"]]


def test_a_notebook_has_the_sweep_in_the_cell_that_started_it(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    cells = [
        setup_cell(tmp_path),
        "handle = hpo.start(main)\nprint(handle.done())",
        f"wait_until_inside(2)\n{GO}\nprint(handle.result().finished)",
        "print(handle.best.value == min(run.value for run in handle.runs))",
        "print(handle.runs == handle.result().runs)",
        "handle",
    ]
    _, *outputs, evaluated = executed(cells, tmp_path / "notebook.ipynb", clean_env)
    printed = ["".join("".join(out["text"]) for out in each if "text" in out) for each in outputs]
    assert printed == ["False\n", "4\n", "True\n", "True\n"]
    shown = [["".join(out["data"]["text/plain"]) for out in each if "data" in out] for each in outputs]
    assert [len(each) for each in shown] == [1, 0, 0, 0]
    assert shown[0][0].startswith("4 runs in ")
    (started,) = (out["data"] for out in outputs[0] if "data" in out)
    assert evaluated[0]["data"]["text/html"] == started["text/html"]
    assert "<path" in "".join(started["text/html"])


def test_an_interrupt_during_optimize_stops_the_sweep_and_another_can_follow(
    kernel: Kernel, tmp_path: Path
) -> None:
    kernel.run(setup_cell(tmp_path))
    ended = kernel.run("hpo.optimize(main)", interrupted_once=lambda: runs_inside(tmp_path) == 2)
    assert ended.error == "KeyboardInterrupt"
    again = kernel.run(f"{GO}; print(hpo.optimize(main).finished)")
    assert again.printed == "4\n"
    summaries = [json.loads(path.read_text()) for path in (tmp_path / "sweeps").glob("*/summary.json")]
    assert sorted(summary["stop_reason"] for summary in summaries) == ["SIGINT", "all 4 runs performed"]
