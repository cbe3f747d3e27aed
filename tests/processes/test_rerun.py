"""`parallel-hpo rerun`: one run of a sweep again, in the foreground and outside of its record."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from tests.commanding import CommandLine
from tests.contract.serving import serving
from tests.processes.conftest import Ended, RealSweep
from tests.pseudo_terminal import PseudoTerminal

MAINS: Final = Path(__file__).with_name("after_runs.py")
SCRIPT: Final = """
import os
import wandb
from parallel_hpo import ConfigLoader

secret = os.environ["MY_TOKEN"] if os.environ.get("USE_TOKEN") else ""
hpo = ConfigLoader("config.json").hpo

def outer():
    def main():
        with wandb.init() as run:
            run.log({"loss": run.config["x"]})
            print("came from a closure", len(secret), run.config["x"])
    return main

def plain():
    with wandb.init() as run:
        run.log({"loss": run.config["x"]})
        print("came from the file", run.config["x"])

hpo.optimize(plain if os.environ.get("PLAIN") else outer())
"""
PROGRAM: Final = """
import sys, wandb
with wandb.init() as run:
    run.log({"loss": 1.0})
    print("came with", sys.argv[1:])
sys.exit(4)
"""


def rerun(sweep: RealSweep, run: str, *more: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of the sweep's runs again, from another folder than the one where that was started."""
    (name,) = [path.parent.name for path in sweep.directory.glob("*/ledger.db")]
    words = ["-m", "parallel_hpo", "rerun", name, run, *more, "--directory", str(sweep.directory)]
    if not stdin:
        other = sweep.beside()
        other.folder = Path("/")
        other.unlike = "the run is no sweep's any more"
        ended = other.start_command(*words).finish()
        return subprocess.CompletedProcess(words, ended.code, ended.stdout, ended.stderr)
    return subprocess.run(
        [sys.executable, *words],
        env=sweep.env,
        cwd="/",
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def grid(*how: str) -> dict[str, Any]:
    return {"method": "grid", "metric": {"name": "loss"}, "parameters": {"how": {"values": list(how)}}}


def run_that(ended: Ended, **parameters: Any) -> str:
    (run,) = [run["run_id"] for run in ended.summary["runs"] if run["parameters"] == parameters]
    return str(run)


def outside_of_sweeps(sweep: RealSweep) -> list[tuple[str, int | None]]:
    """Return the state and the exit code of each run on the server that belongs to no sweep."""
    with closing(sqlite3.connect(f"file:{sweep.directory / 'server.db'}?mode=ro", uri=True)) as database:
        return database.execute("SELECT state, exitcode FROM runs WHERE sweep_id IS NULL").fetchall()


def record_of(sweep: RealSweep) -> list[Any]:
    (path,) = sweep.directory.glob("*/ledger.db")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
        return [
            ledger.execute(f"SELECT * FROM {table}").fetchall() for table in ("runs", "attempts", "facts")
        ]


def test_a_run_is_run_again_with_its_parameters_and_leaves_with_its_own_exit_code(sweep: RealSweep) -> None:
    ended = sweep.start("mixed", mains=MAINS, sweep=grid("well", "fail", "exit", "die"), retries=0).finish()
    before = record_of(sweep)
    failed = rerun(sweep, run_that(ended, how="fail"))
    assert failed.returncode == 1
    assert "line 249 of fail" in failed.stdout
    assert 'raise ValueError("this one fails")' in failed.stderr
    assert outside_of_sweeps(sweep) == [("failed", 1)]
    assert rerun(sweep, run_that(ended, how="exit")).returncode == 3
    assert rerun(sweep, run_that(ended, how="die")).returncode == 128 + 9
    best = rerun(sweep, "best")
    assert (best.returncode, "line 249 of well" in best.stdout) == (0, True)
    assert ("finished", 0) in outside_of_sweeps(sweep)
    assert record_of(sweep) == before
    assert json.loads(next(sweep.directory.glob("*/summary.json")).read_text()) == ended.summary


@pytest.mark.thorough
def test_a_debugger_opens_where_the_run_fails(sweep: RealSweep) -> None:
    ended = sweep.start("mixed", mains=MAINS, sweep=grid("fail"), workers=1).finish()
    looked = rerun(sweep, run_that(ended, how="fail"), "--pdb", stdin="p 'how: ' + how\nq\n")
    assert "'how: fail'" in looked.stdout
    assert looked.returncode == 1
    assert outside_of_sweeps(sweep) == [("failed", 1)]


@pytest.mark.thorough
def test_a_run_that_is_none_of_the_sweeps_is_refused(sweep: RealSweep) -> None:
    ended = sweep.start("mixed", mains=MAINS, sweep=grid("fail"), workers=1).finish()
    refused = rerun(sweep, "nobody")
    assert refused.returncode == 2
    assert f"has no run nobody; known: best, {run_that(ended, how='fail')}" in refused.stderr
    assert "has no finished run with a value" in rerun(sweep, "best").stderr


def test_a_run_again_has_the_terminal_and_ctrl_c_is_its_own(sweep: RealSweep, commands: CommandLine) -> None:
    sweep.start("stops_to_ask", mains=MAINS, sweep=grid("well"), count=1, workers=1).finish()
    (name,) = [path.parent.name for path in sweep.directory.glob("*/ledger.db")]
    command = [sys.executable, "-m", "parallel_hpo", "rerun", name, "best"]
    sweep.env |= {"ASK": "1", "PARALLEL_HPO_DIRECTORY": str(sweep.directory)}
    with PseudoTerminal(command, commands, env=sweep.env, folder=sweep.folder) as terminal:
        terminal.wait_for(lambda lines: "your answer?" in lines, "a question")
        terminal.type(b"42\n")
        terminal.wait_for(lambda lines: "it was 42" in lines, "an answer")
        terminal.type(b"\x03")
        assert terminal.finish() == 128 + 2
        assert any("KeyboardInterrupt" in line for line in terminal.rows())
    assert [state for state, _ in outside_of_sweeps(sweep)] == ["failed"]


@pytest.mark.thorough
def test_a_run_of_a_wandb_servers_sweep_is_run_again_there(
    sweep: RealSweep, clean_env: dict[str, str], tmp_path: Path, commands: CommandLine
) -> None:
    (tmp_path / "remote").mkdir()
    with serving(tmp_path / "remote", clean_env, commands=commands) as server:
        sweep.env |= server.client_env | {"PARALLEL_HPO_BACKEND": "wandb"}
        ended = sweep.start("mixed", mains=MAINS, sweep=grid("well"), count=1, workers=1).finish()
        assert ended.code == 0, ended.stderr
        again = rerun(sweep, "best")
        assert (again.returncode, "line 249 of well" in again.stdout) == (0, True), again.stderr
    assert server.client_env["WANDB_BASE_URL"] in again.stderr
    assert not (sweep.directory / "server.db").exists()


def test_a_sweeps_own_program_is_run_again(sweep: RealSweep) -> None:
    sweep.ends_its_runs = True
    (sweep.folder / "train.py").write_text(PROGRAM)
    keys = {"command": [sys.executable, "${program}", "${args}"], "program": "train.py"}
    config = {"directory": str(sweep.directory), "sweep_configuration": grid("a b") | keys, "workers": 1}
    (sweep.folder / "config.json").write_text(json.dumps({"hpo": config}))
    ended = sweep.start_command("-m", "parallel_hpo", "run", "config.json", "--json").finish()
    again = rerun(sweep, run_that(ended, how="a b"))
    assert (again.returncode, "came with ['--how=a b']" in again.stdout) == (4, True)
    assert "a separate program" in rerun(sweep, run_that(ended, how="a b"), "--pdb").stderr


def start_script(sweep: RealSweep, **variables: str) -> None:
    values = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": [7]}}}
    config = {"directory": str(sweep.directory), "sweep_configuration": values, "workers": 1}
    (sweep.folder / "config.json").write_text(json.dumps({"hpo": config}))
    (sweep.folder / "script.py").write_text(SCRIPT)
    sweep.env |= {"MY_TOKEN": "hush-hush-hush"} | variables
    ended = sweep.start_command("script.py").finish()
    assert ended.summary, ended.stderr
    assert ended.summary["finished"] == 1, ended.stderr


@pytest.mark.thorough
def test_a_scripts_function_is_found_by_its_name_and_as_the_file_is_now(sweep: RealSweep) -> None:
    start_script(sweep, PLAIN="1")
    assert not list(sweep.directory.glob("*/main.pickle"))
    script = sweep.folder / "script.py"
    script.write_text(script.read_text().replace("came from the file", "came from the changed file"))
    again = rerun(sweep, "best")
    assert (again.returncode, "came from the changed file 7" in again.stdout) == (0, True), again.stderr


def test_a_closure_is_kept_for_its_owner_alone(sweep: RealSweep) -> None:
    start_script(sweep)
    (kept,) = sweep.directory.glob("*/main.pickle")
    assert kept.stat().st_mode & 0o077 == 0
    again = rerun(sweep, "best")
    assert (again.returncode, "came from a closure 0 7" in again.stdout) == (0, True), again.stderr


@pytest.mark.thorough
def test_a_closure_that_holds_a_secret_is_not_kept(sweep: RealSweep) -> None:
    start_script(sweep, USE_TOKEN="1")
    assert not list(sweep.directory.glob("*/main.pickle"))
    again = rerun(sweep, "best")
    assert again.returncode == 2
    assert "it contains the value of a variable with a secret's name" in again.stderr
    held = [path for path in sweep.directory.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in held if b"hush-hush-hush" in path.read_bytes()]
