"""An interpreter of its own whose processes are forks of it: `python -m tests.forked ROOM -m parallel_hpo …`.

For what a batch system starts, which no fork of `tests.forking` could be: all of it descends from the batch
system's own process. ROOM is nothing but room for the words that a fork shows (`tests.spares`).
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.commanding import ROOM
from tests.forking import live, with_spares
from tests.spares import StopSource

IMPORTED: Final = (
    "parallel_hpo.api.wandb_sweeps",
    "parallel_hpo.server.http.process",
    "parallel_hpo.worker.worker",
    "wandb",
)
"""What takes long of what a sweep's processes import."""


def forked() -> tuple[str, ...]:
    """Return what stands for the interpreter in a command that starts it so, in an environment with room."""
    return ("env", f"ROOM={' ' * ROOM[1]}", sys.executable, "-m", "tests.forked", " " * ROOM[0])


def main() -> None:
    """Import what the command and its processes need, and be the command."""
    tempfile.tempdir = tempfile.mkdtemp(dir=Path.cwd())  # what modules make there is the forks', too
    for name in IMPORTED:
        importlib.import_module(name)
    importlib.import_module("parallel_hpo.worker.agent_patch").import_early()
    del os.environ["ROOM"]
    live(with_spares(StopSource(sys.argv[2:], str(Path.cwd()), dict(os.environ))))


if __name__ == "__main__":
    main()
