"""The `main`s of the rows, loaded by workers as `mains.py:NAME`; each adds a line to the journal."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import wandb

FOLDER: Final = "CLOUD_CHECK_FOLDER"
JOURNAL: Final = "journal"
GO: Final = "go"
"""The file that lets waiting runs continue."""
DIED: Final = "died"
WAIT_LIMIT_S: Final = 120.0
ROWS_OF_THE_BEST: Final = 3


def learn() -> None:
    """Log three rows."""
    with wandb.init() as run:
        _journal(run)
        for step in range(3):
            run.log({"loss": run.config["x"] + 1 / (step + 1)})


def die_once() -> None:
    """Kill the worker in the first run of the sweep; behave like `learn` in all others."""
    with wandb.init() as run:
        _journal(run)
        try:
            (_folder() / DIED).touch(exist_ok=False)
        except FileExistsError:
            run.log({"loss": run.config["x"]})
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def wait() -> None:
    """Wait until the row lets the runs continue."""
    with wandb.init() as run:
        _journal(run)
        deadline = time.monotonic() + WAIT_LIMIT_S
        while not (_folder() / GO).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        run.log({"loss": run.config["x"]})


def train_until_stopped() -> None:
    """Log a few rows of a small loss for x = 1, and rows of larger losses until the server stops the run."""
    with wandb.init() as run:
        _journal(run)
        x = run.config["x"]
        deadline = time.monotonic() + WAIT_LIMIT_S
        row = 0
        while row < ROWS_OF_THE_BEST or (x > 1 and time.monotonic() < deadline):
            run.log({"loss": x})
            row += 1
            time.sleep(0.5)


def _journal(run: Any) -> None:
    facts = {
        "run": run.id,
        "sweep": os.environ["PARALLEL_HPO_SWEEP_ID"],
        "attempt": int(os.environ["PARALLEL_HPO_ATTEMPT"]),
        "worker": int(os.environ["PARALLEL_HPO_WORKER"]),
    }
    with (_folder() / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(facts) + "\n")


def _folder() -> Path:
    return Path(os.environ[FOLDER])
