"""Sweeps that a notebook starts: in a real kernel, which is interrupted and killed as notebooks are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.commanding import CommandLine
from tests.conftest import clean_env_in
from tests.interpreter import forked_python
from tests.processes.kernels import Kernel, kernel, setup_cell

GO: Final = "(folder / 'go').touch()"
KERNEL: Final = {"name": "forked", "display_name": "forked", "language": "python"}
EXECUTE: Final = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.execute(notebook, timeout=60)
nbformat.write(notebook, sys.argv[1])
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, commands: CommandLine) -> Iterator[Kernel]:
    """A kernel in which a file's tests run their cells, one after the other."""
    folder = tmp_path_factory.mktemp("kernel")
    with (
        clean_env_in(folder / "home") as environment,
        kernel(commands, folder, environment, sweeps=6) as started,
    ):
        yield started


@pytest.fixture
def notebook(shared: Kernel, tmp_path: Path) -> Kernel:
    """A kernel that has performed the first cell."""
    assert shared.run(setup_cell(tmp_path)).error == ""
    return shared


def runs_inside(tmp_path: Path) -> int:
    return sum(1 for each in (tmp_path / "inside").iterdir() if each.name != "go")


def texts(cell: Any) -> list[str]:
    """Return the text of each display that a cell of a notebook has now."""
    shown = (output for output in cell["outputs"] if output["output_type"] == "display_data")
    return ["".join(output["data"]["text/plain"]) for output in shown]


def printed(cell: Any) -> str:
    """Return what a cell printed, on either stream."""
    return "".join("".join(out["text"]) for out in cell["outputs"] if out["output_type"] == "stream")


@pytest.fixture
def own_kernel(tmp_path: Path, clean_env: dict[str, str], commands: CommandLine) -> Iterator[dict[str, str]]:
    """The environment of a notebook with a kernel of its own."""
    folder = tmp_path / "jupyter" / "kernels" / KERNEL["name"]
    folder.mkdir(parents=True)
    with forked_python(commands) as python:
        words = [str(python / "python3"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (folder / "kernel.json").write_text(json.dumps(KERNEL | {"argv": words}))
        yield clean_env | {"JUPYTER_PATH": str(tmp_path / "jupyter")}


def executed(cells: list[str], path: Path, env: dict[str, str]) -> list[Any]:
    """Return the cells of a notebook as nbclient leaves it; apart, for it leaves sockets open."""
    made: list[dict[str, Any]] = [
        {"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
        for cell in cells
    ]
    notebook = {"cells": made, "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 4}
    path.write_text(json.dumps(notebook))
    ended = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path)], env=env, cwd=path.parent, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    ran: list[Any] = json.loads(path.read_text())["cells"]
    return ran


def test_a_notebook_has_the_sweep_in_the_cell_that_started_it(
    tmp_path: Path, own_kernel: dict[str, str]
) -> None:
    cells = [
        setup_cell(tmp_path),
        "handle = hpo.start(main)\nprint(handle.done())",
        f"wait_until(lambda: are_inside(2))\n{GO}\nresult = handle.result()\nprint(result.finished)",
        "print(handle.best.value == min(run.value for run in handle.runs))",
        "print(len(result.to_dataframe()['parameters.x']), len(result.plots.history().data) > 0)",
    ]
    ran = executed(cells, tmp_path / "notebook.ipynb", own_kernel)
    (shown,) = texts(ran[1])
    assert shown.startswith("4 runs in ")
    assert "ended: all 4 runs performed" in shown
    assert any("<table>" in "".join(out["data"]["text/html"]) for out in ran[1]["outputs"] if "data" in out)
    assert [texts(cell) for cell in ran[2:]] == [[], [], []]
    assert [printed(cell) for cell in ran] == ["", "False\n", "4\n", "True\n", "4 True\n"]


def test_the_cell_is_live_while_runs_go_on(notebook: Kernel, tmp_path: Path) -> None:
    started = notebook.run("handle = hpo.start(main)")
    waited = notebook.run(
        "wait_until((folder / 'go').exists); handle.result()",
        once=lambda ran: "0/4 runs · 2 running" in ran.last_text,
        then=(tmp_path / "inside" / "go").touch,
    )
    places = {content["transient"]["display_id"] for _, content in started.shown + waited.shown}
    assert [kind for kind, _ in started.shown][:1] == ["display_data"]
    assert {kind for kind, _ in waited.shown} == {"update_display_data"}
    assert len(places) == 1
    assert waited.last_text.startswith("4 runs in ")


def test_an_interrupt_while_waiting_leaves_the_sweep_and_its_handle_well(
    notebook: Kernel, tmp_path: Path
) -> None:
    notebook.run("handle = hpo.start(main)")
    waited = notebook.run(
        "handle.result()", once=lambda _: runs_inside(tmp_path) == 2, then=notebook.interrupt
    )
    then = notebook.run("print(handle.done(), [run.outcome for run in handle.runs])")
    end = notebook.run(f"{GO}; print(handle.result().finished, [run.attempts for run in handle.runs])")
    assert waited.error == "KeyboardInterrupt"
    assert (then.printed, then.said) == ("False ['open', 'open']\n", "")
    assert (end.error, end.printed, end.said) == ("", "4 [1, 1, 1, 1]\n", "")


def test_an_interrupt_during_optimize_stops_the_sweep(notebook: Kernel, tmp_path: Path) -> None:
    ended = notebook.run(
        "hpo.optimize(main)", once=lambda _: runs_inside(tmp_path) == 2, then=notebook.interrupt
    )
    again = notebook.run(f"{GO}; print(hpo.optimize(main).finished)")
    assert ended.error == "KeyboardInterrupt"
    summaries = [json.loads(path.read_text()) for path in (tmp_path / "sweeps").glob("*/summary.json")]
    assert sorted(summary["stop_reason"] for summary in summaries) == ["SIGINT", "all 4 runs performed"]
    assert again.printed == "4\n"


def test_a_killed_kernel_leaves_nothing(
    tmp_path: Path, clean_env: dict[str, str], commands: CommandLine
) -> None:
    with kernel(commands, tmp_path, clean_env, sweeps=1) as notebook:
        notebook.run(setup_cell(tmp_path))
        notebook.run("handle = hpo.start(main); wait_until(lambda: are_inside(2))")
        notebook.kill()
    assert runs_inside(tmp_path) == 2  # and clean_env waits for their end


def test_stop_and_drain_end_the_sweep_from_a_cell(notebook: Kernel, tmp_path: Path) -> None:
    notebook.run("handle = hpo.start(main); wait_until(lambda: are_inside(2))")
    stopped = notebook.run("handle.stop(); result = handle.result()\nprint(result.stopped, result.exit_code)")
    notebook.run(
        "handle = hpo.start(main, resume=result.sweep_id)\nwait_until(lambda: len(handle.runs) == 2)"
    )
    drained = notebook.run(
        f"wait_until(lambda: all(run.outcome == 'open' for run in handle.runs))\nhandle.drain(); {GO}\n"
        "result = handle.result()\nprint(result.finished, result.stopped, result.exit_code)"
    )
    assert (stopped.printed, stopped.said) == ("2 75\n", "")
    assert (drained.printed, drained.said) == ("2 0 75\n", "")
