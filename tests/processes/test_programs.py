"""A W&B user's own sweep.yaml and train.py, run without a change: programs instead of functions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.processes.conftest import MAINS, RealSweep, outcomes

TRAIN: Final = """
import argparse, json, os, sys, time
import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--epochs", type=int)
parser.add_argument("--fast", action="store_true")
options = parser.parse_args()

def journal(event):
    line = {"event": event, "run_id": os.environ["PARALLEL_HPO_RUN_ID"], "pid": os.getpid(),
            "attempt": int(os.environ["PARALLEL_HPO_ATTEMPT"]),
            "slot": int(os.environ["PARALLEL_HPO_WORKER"]),
            "options": vars(options)}
    with open(os.environ["JOURNAL"], "a") as file:
        file.write(json.dumps(line) + "\\n")

with wandb.init(config=vars(options)) as run:
    journal("enter")
    time.sleep(float(os.environ.get("THEN_SLEEP", "0")))
    while "HELD_UNTIL" in os.environ and not os.path.exists(os.environ["HELD_UNTIL"]):
        time.sleep(0.01)
    for epoch in range(options.epochs):
        run.log({"loss": options.lr * (epoch + 1)})
if options.lr == 0.5:
    sys.exit(3)
if options.lr == 0.7:
    raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")
"""
SWEEP: Final = """
program: train.py
method: grid
metric: {name: loss, goal: minimize}
parameters:
  lr: {values: [0.1, 0.01, 0.5]}
  epochs: {values: [1, 2]}
command: ["${env}", "${interpreter}", "${program}", "${args}"]
"""


def start(sweep: RealSweep, tmp_path: Path, *options: str, yaml: str = SWEEP, workers: int = 2) -> RealSweep:
    sweep.ends_its_runs = True  # before the program fails
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "sweep.yaml").write_text(yaml)
    sweep.env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    place = ("--directory", str(sweep.directory), "--workers", str(workers))
    return sweep.start_command("-m", "parallel_hpo", "run", "sweep.yaml", *place, "--json", *options)


@pytest.fixture
def go(sweep: RealSweep) -> Path:
    """A file that the programs wait for, so that a killed one has not ended before."""
    file = sweep.folder / "go"
    sweep.env["HELD_UNTIL"] = str(file)
    return file


def test_a_users_sweep_file_and_program_run_without_a_change(sweep: RealSweep, tmp_path: Path) -> None:
    ended = start(sweep, tmp_path, yaml=SWEEP.replace("[1, 2]", "[2]")).finish()
    assert ended.code == 0, ended.stderr
    assert sorted(outcomes(ended.summary)) == ["failed", "finished", "finished"]
    assert {run["reason"] for run in ended.summary["runs"]} == {"", "exit 3"}
    assert len({json.dumps(entry.facts["options"]) for entry in sweep.entries()}) == 3
    assert ended.summary["best"]["value"] == 0.02


def test_a_program_that_is_killed_is_run_again_and_leaves_nothing_in_the_temporary_folder(
    sweep: RealSweep, tmp_path: Path, temporary: Path, go: Path
) -> None:
    start(sweep, tmp_path, "--count", "2")
    killed = sweep.wait_for(2)[-1]
    os.kill(killed.pid, signal.SIGKILL)
    go.touch()
    ended = sweep.finish()
    assert len(ended.summary["runs"]) == 2
    assert ended.summary["retried"] == 1
    (again,) = [entry for entry in sweep.entries() if entry.attempt == 2]
    assert (again.run_id, again.facts["options"]) == (killed.run_id, killed.facts["options"])
    left = [path.name for path in temporary.iterdir()]
    # A client that is killed leaves its media, and at its start the file by which its helper tells its port.
    assert [name for name in left if not name.startswith(("tmp", "wandb-symon-portfile-"))] == []


def test_a_killed_worker_and_a_killed_program_lose_nothing(
    sweep: RealSweep, tmp_path: Path, go: Path
) -> None:
    """1. Three workers run a program each. 2. One worker is killed, and another one's program."""
    start(sweep, tmp_path, "--count", "3", yaml=SWEEP.replace("method: grid", "method: random"), workers=3)
    first, second, _ = sweep.wait_for(3)
    worker = psutil.Process(first.pid).parent()
    assert worker is not None
    worker.kill()
    os.kill(second.pid, signal.SIGKILL)
    go.touch()
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    assert len({run["run_id"] for run in ended.summary["runs"]}) == ended.summary["attempted"] == 3
    assert set(outcomes(ended.summary)) <= {"finished", "failed"}
    again = {entry.run_id: entry.facts["options"] for entry in sweep.entries() if entry.attempt == 2}
    assert again == {first.run_id: first.facts["options"], second.run_id: second.facts["options"]}
    assert ended.summary["lost"] == 0


def test_a_failed_program_says_why_and_its_worker_is_replaced_where_that_asks_for_it(
    sweep: RealSweep, tmp_path: Path
) -> None:
    yaml = SWEEP.replace("[0.1, 0.01, 0.5]", "[0.7]").replace("[1, 2]", "[1]")
    ended = start(sweep, tmp_path, "-v", yaml=yaml, workers=1).finish()
    (run,) = ended.summary["runs"]
    assert run["reason"] == "exit 1: RuntimeError: CUDA out of memory. Tried to allocate 20 MiB"
    assert "replaced after exit 1: RuntimeError: CUDA out of memory" in ended.stderr
    assert "ProgramExit" not in ended.stderr


def test_an_interrupt_reaches_the_program(sweep: RealSweep, tmp_path: Path) -> None:
    sweep.env["THEN_SLEEP"] = "60"
    start(sweep, tmp_path)
    sweep.wait_for(2)
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == 130
    assert outcomes(ended.summary) == ["stopped"] * 2


def test_an_interrupt_reaches_the_program_behind_a_shell(sweep: RealSweep, tmp_path: Path) -> None:
    sweep.env["THEN_SLEEP"] = "60"
    shell = 'command: [bash, -c, "python train.py --lr=0.1 --epochs=1; exit $?"]'
    start(sweep, tmp_path, yaml=SWEEP[: SWEEP.index("command:")] + shell, workers=1)
    sweep.wait_for(1)
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == 130
    assert outcomes(ended.summary) == ["stopped"]
    assert sweep.printed("KeyboardInterrupt")
    assert ended.summary["duration_s"] < 30


def test_what_a_program_started_leaves_nothing_either_where_the_worker_is_killed(
    sweep: RealSweep, tmp_path: Path, temporary: Path, go: Path
) -> None:
    shell = 'command: [bash, -c, "python train.py --lr=0.1 --epochs=1; exit $?"]'
    start(sweep, tmp_path, "--count", "2", yaml=SWEEP[: SWEEP.index("command:")] + shell, workers=1)
    (entry,) = sweep.wait_for(1)
    _, worker, *_ = psutil.Process(entry.pid).parents()
    worker.kill()
    go.touch()
    ended = sweep.finish()
    assert ended.summary["retried"] == 1
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("tmp")] == []


def test_a_program_that_is_not_there_is_refused(sweep: RealSweep, tmp_path: Path) -> None:
    ended = start(sweep, tmp_path, yaml=SWEEP.replace("program: train.py", "program: other.py")).finish()
    assert ended.code == 2
    assert "the sweep's program other.py is no file in" in ended.stderr


def test_shares_of_one_count_add_up_to_it_exactly(sweep: RealSweep, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    sweep_id = sweep.create(count=11, workers=1)
    run = ("-m", "parallel_hpo", "run", str(config))
    place = ("--directory", str(sweep.directory))
    target = f"{MAINS}:quick"
    others = [sweep.beside() for _ in range(3)]
    for number, other in enumerate(others, start=1):
        other.start_command(*run, target, "--sweep-id", sweep_id, "--share", f"{number}/3")
    codes = [other.process.wait(60) for other in others if other.process is not None]
    for other in others:
        assert other.process is not None
        other.process.communicate()
    assert codes == [0, 0, 0]
    assert len({entry.run_id for entry in sweep.entries()}) == len(sweep.entries()) == 11
    counts = [
        json.loads((sweep.directory / sweep_id / f"share-{number}-of-3" / "summary.json").read_text())[
            "count"
        ]
        for number in (1, 2, 3)
    ]
    assert counts == [4, 4, 3]
    seen = sweep.start_command("-m", "parallel_hpo", "status", sweep_id, "--json", *place).finish()
    assert (json.loads(seen.stdout)["count"], json.loads(seen.stdout)["finished"]) == (11, 11)


@pytest.mark.thorough  # test_driver has it share devices too
def test_the_example_script_performs_a_count_in_shares(sweep: RealSweep, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    configuration: dict[str, Any] = {"method": "grid", "parameters": {"x": {"values": list(range(7))}}}
    section = {"count": 7, "workers": 1, "directory": str(sweep.directory)}
    config.write_text(json.dumps({"hpo": section | {"sweep_configuration": configuration}}))
    script = Path(__file__).parents[2] / "scripts" / "batch" / "shares.sh"
    sweep.env["PATH"] = f"{Path(sys.executable).parent}:{sweep.env['PATH']}"
    command = ["bash", str(script), "2", str(config), f"{MAINS}:quick"]
    ended = subprocess.run(
        command, env=sweep.env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len({entry.run_id for entry in sweep.entries()}) == len(sweep.entries()) == 7
