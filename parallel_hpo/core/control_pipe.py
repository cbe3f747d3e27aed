"""Commands from other processes to a running session, over a named pipe in the sweep's folder.

Each command is one line of JSON, short enough for an atomic write to a pipe. Only the user may open the pipe
(0600); it needs no port and no short path. `session/signals.py` reads it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from parallel_hpo.core.types import Slot

PIPE: Final = "control"


def is_supervised(folder: Path) -> bool:
    """Return whether a session runs the sweep in `folder`."""
    try:
        with _open(folder):
            return True
    except OSError:  # no such pipe, or nobody reads it
        return False


def send(folder: Path, command: Mapping[str, int]) -> bool:
    """Send a command to the session of the sweep in `folder`; return False if none runs."""
    try:
        with _open(folder) as pipe:
            os.write(pipe, json.dumps(dict(command)).encode() + b"\n")
    except OSError:
        return False
    return True


def drain(slot: Slot) -> Mapping[str, int]:
    """Return the command that stops a slot for good after its current run."""
    return {"drain": int(slot)}


@contextmanager
def _open(folder: Path) -> Iterator[int]:
    """Open a sweep's pipe for writing; OSError if nobody reads it."""
    pipe = os.open(folder / PIPE, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            raise OSError(f"{folder / PIPE} is not a pipe")
        yield pipe
    finally:
        os.close(pipe)
