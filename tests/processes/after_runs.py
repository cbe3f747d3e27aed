"""What the runs of the hooks' tests do: each function is a `main`."""

from __future__ import annotations

import os
import signal
import sys

import wandb


def mixed() -> None:
    """Finish, fail or die, as `how` says, after more lines than are kept."""
    run = wandb.init()
    how = wandb.config["how"]
    for number in range(250):
        print(f"line {number} of {how}")
    run.log({"loss": 1.0})
    if how == "fail":
        raise ValueError("this one fails")
    if how == "exit":
        sys.exit(3)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
