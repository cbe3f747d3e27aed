"""What other processes tell the supervisor of a running sweep: lines in a named pipe in the sweep's folder.

Each letter is one line of JSON, far shorter than what a pipe takes in one piece. The pipe is the user's alone
(0600), and needs no port and no short path. Who reads it is `session/signals.py`.
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
    """Return whether a supervisor runs the sweep in `folder`."""
    try:
        with _open(folder):
            return True
    except OSError:  # no such pipe, or nobody reads it
        return False


def send(folder: Path, letter: Mapping[str, int]) -> bool:
    """Send a letter to the supervisor of the sweep in `folder`; False where none runs."""
    try:
        with _open(folder) as pipe:
            os.write(pipe, json.dumps(dict(letter)).encode() + b"\n")
    except OSError:
        return False
    return True


def drain(slot: Slot) -> Mapping[str, int]:
    """Return the letter that has the slot's worker finish its run and leave for good."""
    return {"drain": int(slot)}


@contextmanager
def _open(folder: Path) -> Iterator[int]:
    """Open a sweep's pipe; OSError where there is none that somebody reads."""
    pipe = os.open(folder / PIPE, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            raise OSError(f"{folder / PIPE} is no pipe")
        yield pipe
    finally:
        os.close(pipe)
