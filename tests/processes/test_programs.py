"""A W&B user's own sweep.yaml and train.py, run without a change: programs instead of functions."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Final

import psutil

from tests.conftest import QUIET
from tests.processes.conftest import RealSweep, outcomes, with_own_python
from tests.pseudo_terminal import PseudoTerminal

TRAIN: Final = """
import argparse, json, os, sys, time
import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--epochs", type=int)
parser.add_argument("--note")
options = parser.parse_args()

with wandb.init(config=vars(options)) as run:
    line = {"event": "enter", "run_id": run.id, "pid": os.getpid(),
            "attempt": int(os.environ.get("PARALLEL_HPO_ATTEMPT", 0)),
            "slot": int(os.environ.get("PARALLEL_HPO_WORKER", -1)),
            "device": os.environ.get("CUDA_VISIBLE_DEVICES"), "options": vars(options)}
    with open(os.environ["JOURNAL"], "a") as file:
        file.write(json.dumps(line) + "\\n")
    while "HELD_UNTIL" in os.environ and not os.path.exists(os.environ["HELD_UNTIL"]):
        time.sleep(0.01)
    for epoch in range(options.epochs):
        run.log({"loss": options.lr * (epoch + 1)})
if options.lr == 0.5:
    sys.exit(3)
"""
SWEEP: Final = """
program: train.py
method: grid
metric: {name: loss, goal: minimize}
parameters:
  lr: {values: [0.1, 0.01, 0.5]}
  epochs: {value: 2}
  note: {value: two words}
command: ["${env}", "${interpreter}", "${program}", "${args}"]
"""
SHELL: Final = SWEEP[: SWEEP.index("command:")].replace("train.py", "logger.py") + (
    'command: [bash, -c, "python logger.py; exit $?"]'
)


def start(sweep: RealSweep, *, yaml: str = SWEEP, workers: int = 2) -> RealSweep:
    sweep.ends_its_runs = True  # before the program fails
    (sweep.folder / "train.py").write_text(TRAIN)
    (sweep.folder / "sweep.yaml").write_text(yaml)
    place = ("--directory", str(sweep.directory), "--workers", str(workers))
    return with_own_python(sweep).run("run", "sweep.yaml", *place, "--json")


def test_a_users_unchanged_sweep_and_program_survive_killed_workers_and_programs(
    sweep: RealSweep, temporary: Path
) -> None:
    """1. Three workers run a program each. 2. One worker is killed, and another one's program. 3. `rerun`."""
    sweep.env |= QUIET | {"HELD_UNTIL": str(sweep.folder / "go"), "CUDA_VISIBLE_DEVICES": "3,5,7"}
    start(sweep, workers=3)
    first, second, _ = sweep.wait_for(3)
    worker = psutil.Process(first.pid).parent()
    assert worker is not None
    worker.kill()
    os.kill(second.pid, signal.SIGKILL)
    sweep.go()
    ended = sweep.finish()
    assert (ended.code, ended.summary["lost"]) == (0, 0), ended.stderr
    assert sorted(outcomes(ended.summary)) == ["failed", "finished", "finished"]
    assert {run["reason"] for run in ended.summary["runs"]} == {"", "exit 3"}
    assert {entry.facts["device"] for entry in sweep.entries()} == {"3", "5", "7"}
    assert ended.summary["best"]["value"] == 0.02
    again = {entry.run_id: entry.facts["options"] for entry in sweep.entries() if entry.attempt == 2}
    assert again == {first.run_id: first.facts["options"], second.run_id: second.facts["options"]}
    # A killed client leaves its media, and at its start the file with its helper's port.
    assert [path for path in temporary.iterdir() if not path.name.startswith(("tmp", "wandb-"))] == []
    (failed,) = (run["run_id"] for run in ended.summary["runs"] if run["outcome"] == "failed")
    assert sweep.rerun(failed).code == 3
    assert sweep.entries()[-1].facts["options"] == {"lr": 0.5, "epochs": 2, "note": "two words"}


LOGGING: Final = """
import time
import wandb

with wandb.init() as run:
    for loss in (0.5, 0.25, 0.125):
        run.log({"loss": loss})
    time.sleep(600)
"""


def test_the_row_shows_what_a_program_behind_a_shell_has_logged_and_an_interrupt_reaches_it(
    sweep: RealSweep,
) -> None:
    with_own_python(sweep).env["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    (sweep.folder / "logger.py").write_text(LOGGING)
    (sweep.folder / "sweep.yaml").write_text(SHELL)
    command = (sys.executable, "-m", "parallel_hpo", "run", "sweep.yaml", "--workers", "1")
    place = ("--directory", str(sweep.directory))
    with PseudoTerminal((*command, *place), env=sweep.env, folder=sweep.folder) as shown:
        shown.wait_for(lambda lines: re.search("step 2 .*loss=0.125", "".join(lines[-1:])), "the last step")
        shown.signal(signal.SIGINT)  # to the session alone
        assert shown.finish() == 128 + signal.SIGINT
    assert sweep.printed("KeyboardInterrupt")
    (summary,) = sweep.directory.glob("*/summary.json")
    assert outcomes(json.loads(summary.read_text())) == ["stopped"]


STOPPABLE: Final = """
import argparse, time
import wandb
from wandb.sdk.lib import run_stopping

run_stopping.RunStopChecker.__init__.__kwdefaults__["poll_interval"] = 0.2
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=int)
x = parser.parse_args().x
run = wandb.init()
for _ in range(3 if x == 1 else 6000):
    run.log({"loss": x})
    time.sleep(0.05)
"""


def test_a_program_that_hyperband_stops_by_its_client_is_stopped_and_not_run_again(sweep: RealSweep) -> None:
    """The client in the program asks more often here than the agent of its worker does."""
    sweep.env["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    (sweep.folder / "stoppable.py").write_text(STOPPABLE)
    yaml = SWEEP[: SWEEP.index("parameters:")].replace("train.py", "stoppable.py")
    yaml += "parameters: {x: {values: [1, 2]}}\nearly_terminate: {type: hyperband, min_iter: 3, eta: 3}\n"
    ended = start(sweep, yaml=yaml, workers=1).finish()
    runs = [(run["outcome"], run["attempts"]) for run in ended.summary["runs"]]
    assert (ended.code, runs) == (0, [("finished", 1), ("stopped", 1)]), ended.stderr
