"""What the measured runs do: each function is a `main`, for workers, stock agents and bare loops alike."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import wandb


def note(event: str) -> None:
    """Write down when something happened, on the clock that all processes of a machine share."""
    line = json.dumps([event, time.monotonic(), os.getpid()])
    with Path(os.environ["BENCH_JOURNAL"]).open("a") as journal:
        journal.write(line + "\n")


def empty() -> None:
    """An empty run: init, 3 logs, finish."""
    note("enter")
    run = wandb.init()
    for step in range(3):
        run.log({"loss": float(step)})
    run.finish()
    note("leave")


def enter() -> None:
    """Be inside `main`, and nothing else."""
    note("enter")
    time.sleep(600)


def stay() -> None:
    """Be inside a W&B run until a Ctrl-C."""
    note("enter")
    wandb.init()
    note("open")
    time.sleep(600)


def sleep() -> None:
    """Sleep as long as the run's own figure says."""
    note("enter")
    run = wandb.init()
    figures = json.loads(os.environ["BENCH_FIGURES"])
    time.sleep(figures[wandb.config["index"]])
    run.log({"loss": 0.0})


def pace() -> None:
    """Take as long as a run takes on this machine, from when all machines are there."""
    note("enter")
    while not Path(os.environ["BENCH_GO"]).exists():
        time.sleep(0.01)
    run = wandb.init()
    time.sleep(float(os.environ["BENCH_SLEEP_S"]))
    run.log({"loss": 0.0})
    run.finish()
    note("leave")
