"""Process trees: to be the one that orphans come back to, and to leave none of them.

Linux gives orphans to the nearest living ancestor that is a child subreaper
(prctl(2), PR_SET_CHILD_SUBREAPER), also those that double-forked or have a session
of their own. Elsewhere they go to init, and only the tree below a living process
can be found. A resource tracker of multiprocessing is not killed before it has
unlinked what those that it served have left in shared memory.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import psutil

from parallel_hpo.worker import scratch

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
PATIENCE_S: Final = 1.0
"""For a process that is about to end by itself, which takes a tracker some milliseconds."""


def be_subreaper(on: bool = True) -> bool:
    """Make orphans below this process its children (Linux); return whether that was so before."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int(0)
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
    return bool(before.value)


def die_with_parent(on: bool = True) -> None:
    """Have the kernel SIGKILL this process when the thread that started it ends (Linux), or no more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL) if on else 0, 0, 0, 0)


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL a process and all below it, deepest first; those already gone are fine.

    Trackers below are left alone: they end once those that they serve are dead.
    """
    for member in reversed(below(process)):
        if not is_tracker(member):
            kill(member)
    if is_tracker(process):
        let_end(process)
    else:
        kill(process)


def kill_trees(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL these and all below them: trackers last, as they serve the others."""
    for process in sorted(processes, key=is_tracker):
        kill_tree(process)


def is_tracker(process: psutil.Process) -> bool:
    """Whether it is a resource tracker: multiprocessing's, or one that is made like it (loky's)."""
    try:
        return any("resource_tracker import main" in word for word in process.cmdline())
    except (psutil.Error, OSError):
        return False


def let_end(process: psutil.Process, *, within_s: float = PATIENCE_S) -> None:
    """Wait for a process that is about to end by itself; kill it where that takes longer."""
    try:
        process.wait(within_s)
    except psutil.TimeoutExpired:
        kill(process)


def below(process: psutil.Process) -> list[psutil.Process]:
    """Return all descendants of a process, parents first; none where it is gone."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(process: psutil.Process) -> None:
    """SIGKILL exactly this process: psutil checks its start time, so a reused pid is safe.

    What it would have removed at its end goes too, where it is one of wandb's.
    """
    try:
        keeps_sockets = process.name() in scratch.OWNERS
        process.kill()
    except psutil.NoSuchProcess:
        return
    if keeps_sockets:
        scratch.clear_sockets(process.pid)


def kill_all_below(spare: Callable[[psutil.Process], bool] = lambda _: False) -> None:
    """Kill and reap all children of this process, and what they leave, until none is left.

    `spare` names direct children that stay, with all below them.
    """
    while doomed := [child for child in children() if not spare(child)]:
        kill_trees(doomed)
        for child in doomed:
            reap(child.pid)


def children(of: int | None = None) -> list[psutil.Process]:
    """Return the children of a process, by default of this one, zombies included.

    Linux lists them by the thread that made them (proc(5), CONFIG_PROC_CHILDREN): a look there
    costs 0.1 ms, one at every process of the machine several. Raises psutil.NoSuchProcess.
    """
    try:
        threads = Path("/proc", "self" if of is None else str(of), "task").iterdir()
        pids = [pid for thread in threads for pid in _read_children(thread)]
    except OSError:  # another system, or a thread that has just ended
        return psutil.Process(of).children()
    return [child for pid in pids if (child := _process(pid)) is not None]


def _read_children(thread: Path) -> list[int]:
    return [int(pid) for pid in (thread / "children").read_text().split()]


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def reap(pid: int) -> None:
    """Wait for a child that was killed; one that somebody else has waited for is fine."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def used_mb(pid: int) -> float:
    """Return the memory of a process and all below it in MB; PSS on Linux, where shared pages count once."""
    try:
        top = psutil.Process(pid)
        return sum(_memory_bytes(process) for process in [top, *below(top)]) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def _memory_bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    except psutil.Error:
        return 0
