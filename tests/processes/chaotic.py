"""What a run does while chaos reigns: some time, a few lines, each journalled before it is logged."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import wandb


def journal(event: str, **facts: Any) -> None:
    """Append a line to the run's own journal, in one write, so that a SIGKILL leaves it whole or out."""
    line = {"event": event, "attempt": int(os.environ["PARALLEL_HPO_ATTEMPT"]), "at": time.time(), **facts}
    path = Path(os.environ["JOURNALS"], f"{os.environ['PARALLEL_HPO_RUN_ID']}.jsonl")
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def main() -> None:
    """Take 0.2 to 1 s, and log three to six lines."""
    run = wandb.init()
    journal("enter", pid=os.getpid())
    lines = random.randint(3, 6)
    pause_s = random.uniform(0.2, 1.0) / lines
    for number in range(lines):
        logged = {"loss": round(random.random(), 6), "line": number}
        journal("log", logged=logged)
        run.log(logged)
        time.sleep(pause_s)
    journal("leave")


def holding_the_interpreter() -> None:
    """Stay in C code that never lets another thread run: nothing in this process notices anything."""
    import ctypes

    wandb.init()
    journal("enter", pid=os.getpid())
    ctypes.PyDLL(None).sleep(100)
