"""A sweep on a terminal and its commands: live rows, `status` to `scale`, and `rerun`."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import optuna
import pytest

from tests.processes.conftest import MAINS, RANDOM, RealSweep, grid, outcomes
from tests.processes.consistency import rows
from tests.pseudo_terminal import PseudoTerminal
from tests.storages import storage_in


def test_a_running_sweep_is_shown_and_cancelled_from_another_terminal(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=4).wait_for(2)
    seen = sweep.ask_json("status", sweep.sweep_id)
    assert (seen["running"], seen["started"], seen["open"], seen["count"]) == (True, 2, 2, 4)
    exported = json.loads(sweep.ask("export", sweep.sweep_id, "--format", "json"))
    assert ([run["outcome"] for run in exported["runs"]], exported["attempted"]) == (["open"] * 2, 0)
    sweep.ask("cancel", sweep.sweep_id)
    ended = sweep.finish()
    assert (ended.summary["stop_reason"], outcomes(ended.summary)) == (
        "the sweep was cancelled",
        ["stopped"] * 2,
    )


def test_an_ended_sweep_can_be_shown_and_exported_but_not_controlled(sweep: RealSweep) -> None:
    named = RANDOM | {"name": "first try"}
    ended = sweep.start("quick", count=3, project="digits", sweep=named).finish()
    name, best = sweep.sweep_id, ended.summary["best"]
    seen = sweep.ask_json("status", name)
    assert (seen["running"], seen["name"], seen["project"]) == (False, "first try", "digits")
    assert sweep.ask_json("best", name)["run_id"] == best["run_id"]
    lines = [json.loads(line) for line in sweep.ask("logs", name, "--json").splitlines()]
    assert {line["worker"] for line in lines} <= {"worker-0", "worker-1"}
    listed = list(csv.DictReader(io.StringIO(sweep.ask("runs", name, "--csv", "--sort", "value"))))
    by_x = sweep.ask_json("runs", name, "--sort", "parameters.x")
    assert [run["run_id"] for run in by_x] == [row["run_id"] for row in listed]  # loss grows with x
    assert listed[0]["run_id"] == best["run_id"]
    assert "there is no such column" in sweep.ask("runs", name, "--sort", "y", code=2)
    file = sweep.folder / "studies.db"
    assert sweep.ask("export", name, "--format", "optuna", "-o", str(file)) == f"{file}\n"
    study = optuna.load_study(study_name=None, storage=storage_in(file))
    for trial, run in zip(study.trials, ended.summary["runs"], strict=True):
        assert (trial.user_attrs["run_id"], trial.value) == (run["run_id"], run["value"])
        assert trial.intermediate_values == {step: run["parameters"]["x"] + step for step in range(3)}
    assert "is not running" in sweep.ask("scale", name, "3", code=2)
    assert "has ended: the sweep is finished" in sweep.ask("pause", name, code=2)
    assert sweep.ask_json("resume", name) == {"sweep": name, "verb": "resume", "running": False}
    assert f"there: {name}" in sweep.ask("status", "nothing", code=2)


def test_a_paused_sweep_starts_no_run_until_it_is_resumed_and_a_stopped_one_ends(sweep: RealSweep) -> None:
    sweep.start("brief", count=500).wait_for(2)
    sweep.ask("pause", sweep.sweep_id)
    sweep.wait_until(lambda: sweep.ask_json("status", sweep.sweep_id)["open"] == 0, "all runs over")
    paused_at = len(sweep.entries())
    sweep.ask("resume", sweep.sweep_id)
    sweep.wait_for(paused_at + 2)
    sweep.ask("stop", sweep.sweep_id)
    ended = sweep.finish()
    assert (ended.code, ended.summary["stop_reason"]) == (0, "the sweep is finished"), ended.stderr
    assert set(outcomes(ended.summary)) == {"finished"}


@pytest.mark.skipif(sys.platform != "linux", reason="the limit that is named is Linux's")
def test_a_running_sweep_is_scaled_up_within_the_limits_and_down(sweep: RealSweep) -> None:
    sweep.launcher = ("sh", "-c", 'ulimit -S -n 120; ulimit -H -n 1000; exec "$@"', "sh")
    sweep.start("held", count=10).wait_for(2)
    sweep.ask("scale", sweep.sweep_id, "1000")
    said = sweep.read_until("not scaled to 1000 workers: ")
    assert "this process may have 1000 (ulimit -Hn)" in said
    sweep.ask("scale", sweep.sweep_id, "4")
    sweep.wait_for(4)
    sweep.ask("scale", sweep.sweep_id, "1")
    sweep.go()
    sweep.finish_all(10)
    assert {entry.slot for entry in sweep.entries()[:4]} == {0, 1, 2, 3}
    assert len({entry.slot for entry in sweep.entries()[-4:]}) == 1


def test_the_run_of_a_drained_worker_that_dies_is_run_again_by_another(sweep: RealSweep) -> None:
    first, _ = sweep.start("held", count=5).wait_for(2)
    assert "has no worker 7" in sweep.ask("drain", sweep.sweep_id, "--worker", "7", code=2)
    sweep.ask("drain", sweep.sweep_id, "--worker", str(first.slot))
    os.kill(first.pid, signal.SIGKILL)
    sweep.go()
    sweep.finish_all(5)
    assert (first.run_id, 2) in {(entry.run_id, entry.attempt) for entry in sweep.entries()}
    assert {entry.slot for entry in sweep.entries()[2:]} == {1 - first.slot}


ROW: Final = re.compile(r"^w(\d+) +([a-z0-9]{8}) .*?(\d+)/400 .*loss=")
"""The row of a worker whose run has logged something."""


@pytest.fixture
def terminal(sweep: RealSweep) -> Iterator[PseudoTerminal]:
    """A sweep of two workers, on a terminal; its runs end once there is a file `go`."""
    sweep.configure(sweep_configuration=grid(x=[1, 2], epochs=[400]), workers=2, count=2)
    command = (sys.executable, "-m", "parallel_hpo", "run", "config.json", f"{MAINS}:stepping")
    with PseudoTerminal(command, env=sweep.env, folder=sweep.folder) as shown:
        yield shown


def rows_of(lines: list[str]) -> dict[int, int]:
    """Return how many epochs each worker's row shows; nothing where one has two rows."""
    found = [match for line in lines if (match := ROW.match(line))]
    slots = {int(match[1]): int(match[3]) for match in found}
    return slots if len(slots) == len(found) else {}


def is_whole(lines: list[str]) -> bool:
    """Whether there is a row for each worker, and the progress above them, at the end."""
    return len(rows_of(lines[-2:])) == 2 and "0/2 runs · 2 running" in lines[-3]


def test_each_worker_has_a_row_in_its_place_after_a_resize_too_until_ctrl_c(terminal: PseudoTerminal) -> None:
    lines = terminal.wait_for(lambda lines: is_whole(lines) and "MB" in lines[-1], "rows with memory")
    assert [line.split()[0] for line in lines[-2:]] == ["w0", "w1"]
    assert re.search(r"\d+%  loss=\S+ +[\d.]+ s +\d+ MB$", lines[-1])
    for columns, height in ((40, 30), (100, 40), (60, 20)):
        terminal.resize(columns, height)
        before = rows_of(terminal.wait_for(is_whole, f"rows at {columns} columns"))
        terminal.wait_for(
            lambda lines: all(done > before[slot] for slot, done in rows_of(lines).items()),  # noqa: B023
            "progress",
        )
        assert all(len(line) <= columns for line in terminal.wait_for(is_whole, "rows"))
    modes = re.findall(rb"\x1b\[\?(\d+)[hl]", terminal.raw)
    assert modes == [], "a SIGKILL would not leave the terminal as it was"
    terminal.type(b"\x03")
    assert terminal.finish() == 128 + signal.SIGINT
    lines = terminal.rows()
    assert not rows_of(lines)
    assert any("resume with: " in line for line in lines)
    assert not terminal.hides_cursor
    link = re.search(rb"\x1b\]8;[^;]*;(http\S+?)\x1b\\", terminal.raw)
    assert link is not None and b"/sweeps/" in link[1]


SCRIPT: Final = """
import wandb
from parallel_hpo import ConfigLoader

def outer():
    def main():
        with wandb.init() as run:
            run.log({"loss": run.config["x"]})
            print("came from a closure", run.config["x"])
    return main

ConfigLoader("config.json").hpo.optimize(outer())
"""


def outside_of_sweeps(sweep: RealSweep) -> list[Any]:
    """Return the state and exit code of each run on the server that belongs to no sweep."""
    return sweep.server_rows("SELECT state, exitcode FROM runs WHERE sweep_id IS NULL ORDER BY id")


def record_of(sweep: RealSweep) -> list[Any]:
    ledger = sweep.directory / sweep.sweep_id / "ledger.db"
    return [rows(ledger, f"SELECT * FROM {table}") for table in ("runs", "attempts", "facts")]


@pytest.fixture(scope="module")
def mixed(new_sweep: Callable[[], RealSweep]) -> RealSweep:
    """A run that went well, and one that failed."""
    sweep = new_sweep().start("mixed", sweep=grid(how=["well", "fail"]), retries=0)
    sweep.finish()
    return sweep


def test_rerun_repeats_a_run_with_its_parameters_and_exits_with_its_exit_code(mixed: RealSweep) -> None:
    before = record_of(mixed)
    (run_id,) = [run["run_id"] for run in mixed.ended.summary["runs"] if run["outcome"] == "failed"]
    failed = mixed.rerun(run_id)
    assert (failed.code, "line 249 of fail" in failed.stdout) == (1, True), failed.stderr
    assert 'raise ValueError("this one fails")' in failed.stderr
    assert outside_of_sweeps(mixed)[-1] == ("failed", 1)
    assert record_of(mixed) == before


def test_rerun_gives_the_run_the_terminal_and_its_ctrl_c(mixed: RealSweep) -> None:
    command = [sys.executable, "-m", "parallel_hpo", "rerun", mixed.sweep_id, "best"]
    variables = {"ASK": "1", "PARALLEL_HPO_DIRECTORY": str(mixed.directory)}
    with PseudoTerminal(command, env=mixed.env | variables, folder=mixed.folder) as terminal:
        terminal.wait_for(lambda lines: "your answer?" in lines, "a question")
        terminal.type(b"42\n")
        terminal.wait_for(lambda lines: "it was 42" in lines, "an answer")
        terminal.type(b"\x03")
        assert terminal.finish() == 128 + 2
    assert outside_of_sweeps(mixed)[-1] == ("killed", 255)


def test_a_closure_is_readable_by_its_owner_alone_and_can_be_rerun(sweep: RealSweep) -> None:
    sweep.configure(sweep_configuration=grid(x=[7]), workers=1)
    (sweep.folder / "script.py").write_text(SCRIPT)
    assert sweep.python("script.py").finish().summary["finished"] == 1
    (pickled,) = sweep.directory.glob("*/main.pickle")
    assert pickled.stat().st_mode & 0o077 == 0
    again = sweep.rerun("best")
    assert (again.code, "came from a closure 7" in again.stdout) == (0, True), again.stderr
    assert json.loads(next(sweep.directory.glob("*/summary.json")).read_text())["attempted"] == 1
