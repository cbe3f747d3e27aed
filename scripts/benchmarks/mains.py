"""The measured runs: each function is a `main` for workers, stock agents and plain loops."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import wandb


def note(event: str) -> None:
    """Write down the time of an event, on the clock that all processes of a machine share."""
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
    """Wait in `main`."""
    note("enter")
    time.sleep(600)


def stay() -> None:
    """Wait in a W&B run until SIGINT."""
    note("enter")
    wandb.init()
    note("open")
    time.sleep(600)


def sleep() -> None:
    """Sleep for the run's own duration."""
    note("enter")
    run = wandb.init()
    figures = json.loads(os.environ["BENCH_FIGURES"])
    time.sleep(figures[wandb.config["index"]])
    run.log({"loss": 0.0})


def several() -> None:
    """Start a sweep's runs side by side, and end them when asked to, or when the benchmark has died."""
    benchmark = os.getppid()
    settings = wandb.Settings(sweep_id=os.environ["BENCH_SWEEP"], reinit="create_new")
    runs = []
    for run_id in json.loads(os.environ["BENCH_RUNS"]):
        settings.run_id = run_id
        runs.append(wandb.init(project="bench", config={"x": 0.5}, settings=settings))
    note("open")
    while os.getppid() == benchmark and not Path(os.environ["BENCH_GO"]).exists():
        time.sleep(0.01)
    print("a line of each run's console")
    for run in runs:
        run.finish()
    note("leave")


def pace() -> None:
    """Take this machine's duration of a run, after all machines have arrived."""
    note("enter")
    while not Path(os.environ["BENCH_GO"]).exists():
        time.sleep(0.01)
    run = wandb.init()
    time.sleep(float(os.environ["BENCH_SLEEP_S"]))
    run.log({"loss": 0.0})
    run.finish()
    note("leave")
