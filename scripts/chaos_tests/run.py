"""What a run does while chaos reigns: some time, a few lines, each journalled before it is logged.

Some runs open wandb in an odd way, or spoil the process that they share with it: ways after which
a run has finished all the same, once it was run again where that is what they lead to.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import wandb

from tests.processes import deaths

ODD: Final = 0.3
"""The part of all runs that are odd."""
OPENINGS: Final[dict[str, Callable[[], Any]]] = {
    "offline": lambda: wandb.init(mode="offline"),
    "offline by environment": deaths.init_offline_by_environment,
    "in another place": lambda: wandb.init(project="another", id="own", name="mine"),
    "kept open": deaths.init_and_keep,
    "after a login": deaths.init_as_somebody,
}
SPOILS: Final[dict[str, Callable[[], object]]] = deaths.SPOILS | {
    "wandb torn down": wandb.teardown,
    "own wandb-core killed": lambda: None if again() else deaths.kill_core(),
    "preempted": deaths.preempt_once,
}
PLAIN: Final = "plain"
NEVER_OFFLINE: Final = "NEVER_OFFLINE"
"""Set where supervisors die: what a run wrote offline, and they have not sent by then, stays unsent."""


def again() -> bool:
    return os.environ["PARALLEL_HPO_ATTEMPT"] != "1"


def journal(event: str, **facts: Any) -> None:
    """Append a line to the run's own journal, in one write, so that a SIGKILL leaves it whole or out."""
    line = {"event": event, "attempt": int(os.environ["PARALLEL_HPO_ATTEMPT"]), "at": time.time(), **facts}
    path = Path(os.environ["JOURNALS"], f"{os.environ['PARALLEL_HPO_RUN_ID']}.jsonl")
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def odd_ways() -> list[str]:
    ways = [*OPENINGS, *SPOILS]
    return [way for way in ways if "offline" not in way] if NEVER_OFFLINE in os.environ else ways


def main() -> None:
    """Take 0.2 to 1 s, and log three to six lines; be odd now and then."""
    way = random.choice(odd_ways()) if random.random() < ODD else PLAIN
    run = OPENINGS[way]() if way in OPENINGS else wandb.init()
    journal("enter", pid=os.getpid(), way=way)
    lines = random.randint(3, 6)
    pause_s = random.uniform(0.2, 1.0) / lines
    for number in range(lines):
        logged = {"loss": round(random.random(), 6), "line": number}
        journal("log", logged=logged)
        run.log(logged)
        time.sleep(pause_s)
    journal("leave")
    if way in SPOILS:
        SPOILS[way]()
