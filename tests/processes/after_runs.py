"""What the runs of the hooks' tests do: each function is a `main`."""

from __future__ import annotations

import os
import signal
import sys
import time

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


def stops_to_ask() -> None:
    """Finish; where there is somebody to be asked, ask, and wait to be interrupted."""
    with wandb.init() as run:
        run.log({"loss": 1.0})
        if os.environ.get("ASK"):
            print("your answer?")
            print("it was", input())
            time.sleep(1000)
