"""`parallel-hpo rerun`: one run of a sweep again, in the foreground and outside of its record."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes.conftest import Ended, PerformedRuns, RealSweep, grid, rows
from tests.pseudo_terminal import PseudoTerminal

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
PROGRAM: Final = """
import sys, wandb
with wandb.init() as run:
    run.log({"loss": 1.0})
    print("came with", sys.argv[1:])
sys.exit(4)
"""


def rerun(sweep: RealSweep, run: str, *more: str) -> Ended:
    """Run one of the sweep's runs again, from another folder than the one where it was started."""
    other = sweep.beside()
    other.folder = Path("/")
    other.unlike = "the run belongs to no sweep"
    return other.run("rerun", sweep.sweep_id, run, *more, "--directory", str(sweep.directory)).finish()


def run_that(ended: Ended, **parameters: Any) -> str:
    (run,) = [run["run_id"] for run in ended.summary["runs"] if run["parameters"] == parameters]
    return str(run)


def outside_of_sweeps(sweep: RealSweep) -> list[Any]:
    """Return the state and exit code of each run on the server that belongs to no sweep."""
    return sweep.server_rows("SELECT state, exitcode FROM runs WHERE sweep_id IS NULL ORDER BY id")


def record_of(sweep: RealSweep) -> list[Any]:
    ledger = sweep.directory / sweep.sweep_id / "ledger.db"
    return [rows(ledger, f"SELECT * FROM {table}") for table in ("runs", "attempts", "facts")]


@pytest.fixture(scope="module")
def mixed(new_sweep: Callable[[], RealSweep]) -> PerformedRuns:
    """A run that went well, and one that failed."""
    sweep = new_sweep()
    return PerformedRuns(sweep, sweep.start("mixed", sweep=grid(how=["well", "fail"]), retries=0).finish())


def test_a_run_is_run_again_with_its_parameters_and_leaves_with_its_own_exit_code(
    mixed: PerformedRuns,
) -> None:
    sweep, before = mixed.sweep, record_of(mixed.sweep)
    failed = rerun(sweep, run_that(mixed.ended, how="fail"))
    assert (failed.code, "line 249 of fail" in failed.stdout) == (1, True), failed.stderr
    assert 'raise ValueError("this one fails")' in failed.stderr
    assert outside_of_sweeps(sweep)[-1] == ("failed", 1)
    assert record_of(sweep) == before


def test_a_run_again_has_the_terminal_and_ctrl_c_is_its_own(mixed: PerformedRuns) -> None:
    sweep = mixed.sweep
    command = [sys.executable, "-m", "parallel_hpo", "rerun", sweep.sweep_id, "best"]
    variables = {"ASK": "1", "PARALLEL_HPO_DIRECTORY": str(sweep.directory)}
    with PseudoTerminal(command, env=sweep.env | variables, folder=sweep.folder) as terminal:
        terminal.wait_for(lambda lines: "your answer?" in lines, "a question")
        terminal.type(b"42\n")
        terminal.wait_for(lambda lines: "it was 42" in lines, "an answer")
        terminal.type(b"\x03")
        assert terminal.finish() == 128 + 2
    assert outside_of_sweeps(sweep)[-1] == ("killed", 255)


def test_a_sweeps_own_program_is_run_again(sweep: RealSweep) -> None:
    sweep.ends_its_runs = True
    (sweep.folder / "train.py").write_text(PROGRAM)
    keys = {"command": [sys.executable, "${program}", "${args}"], "program": "train.py"}
    config = sweep.configure(sweep_configuration=grid(how=["a b"]) | keys, workers=1)
    ended = sweep.run("run", config, "--json").finish()
    again = rerun(sweep, run_that(ended, how="a b"))
    assert (again.code, "came with ['--how=a b']" in again.stdout) == (4, True), again.stderr


def test_a_closure_is_kept_for_its_owner_alone_and_run_again(sweep: RealSweep) -> None:
    sweep.configure(sweep_configuration=grid(x=[7]), workers=1)
    (sweep.folder / "script.py").write_text(SCRIPT)
    assert sweep.python("script.py").finish().summary["finished"] == 1
    (pickled,) = sweep.directory.glob("*/main.pickle")
    assert pickled.stat().st_mode & 0o077 == 0
    again = rerun(sweep, "best")
    assert (again.code, "came from a closure 7" in again.stdout) == (0, True), again.stderr
    assert json.loads(next(sweep.directory.glob("*/summary.json")).read_text())["attempted"] == 1
