"""Takes what two kills at once may have left: a dead supervisor's processes and folders, nobody's any more.

Every process of a sweep bears its supervisor's mark in the environment that it got
when its program started, which forks without exec keep. A mark names the supervisor by pid and
start time, so that a reused pid is told apart, and the pid namespace, so that a
container's sweep is never judged from outside of it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from parallel_hpo.worker import scratch, tree

MARK: Final = scratch.MARK
"""In the environment of the fork server, of the sweep server, and so of all below them: whose they are."""
SAME_START_S: Final = 2.0
"""A process's start is known to a clock tick of the boot time, which shifts when the clock is set."""


def make_mark() -> str:
    """Return a mark of this process's own, of letters, digits and underscores, as a worker's label needs."""
    started = round(psutil.Process().create_time())
    return f"{os.getpid()}_{started}_{_namespace()}_{secrets.token_hex(4)}"


def reap_leftovers(processes: Iterable[psutil.Process] | None = None) -> int:
    """Kill processes whose supervisor is dead, with all below them; return how many were found."""
    found = [
        process
        for process in (psutil.process_iter() if processes is None else processes)
        if _is_left_over(process)
    ]
    for process in found:
        tree.kill_tree(process)
    scratch.clear_all(_is_over)
    return len(found)


def _is_left_over(process: psutil.Process) -> bool:
    try:
        return _is_over(process.environ().get(MARK, ""))
    except (psutil.Error, OSError):
        return False  # another user's, or gone


def _is_over(mark: str) -> bool:
    """Whether a mark names a supervisor that is dead."""
    pid, _, rest = mark.partition("_")
    started, _, rest = rest.partition("_")
    namespace = rest.partition("_")[0]
    if not (pid.isdigit() and started.isdigit()) or namespace != _namespace():
        return False
    return not _lives(int(pid), float(started))


def _lives(pid: int, started: float) -> bool:
    try:
        supervisor = psutil.Process(pid)
        if supervisor.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(supervisor.create_time() - started) <= SAME_START_S
    except psutil.NoSuchProcess:
        return False


def _namespace() -> str:
    with suppress(OSError):
        return "".join(filter(str.isdigit, Path("/proc/self/ns/pid").readlink().name))
    return "0"
