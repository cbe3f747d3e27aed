"""wandb-core, the client's own process beside each worker: which it is, and whether it was killed.

A client whose wandb-core is gone can tell its server nothing any more, and neither can
its agent ask for the next run. One that the client ends itself it also waits for, so
that a zombie is one which somebody has killed (the kernel's out-of-memory killer, say).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

import psutil

from parallel_hpo.worker import scratch, tree

NAME: Final = "wandb-core"


def is_core(process: psutil.Process) -> bool:
    """Whether it is a process of wandb's own, beside whatever process."""
    try:
        return process.name() in scratch.OWNERS
    except psutil.Error:
        return False


def is_own_core(process: psutil.Process) -> bool:
    """Whether it is this process's own wandb-core, which the agent's next run takes down itself."""
    try:
        return is_core(process) and str(os.getpid()) in process.cmdline()
    except psutil.ZombieProcess:
        return True
    except psutil.Error:
        return False


class Core:
    """The wandb-cores that one run has been seen to use."""

    def __init__(self, children: Callable[[], Iterable[psutil.Process]] = tree.children) -> None:
        """`children` lists this process's children, zombies included."""
        self._children = children
        self._seen: tuple[psutil.Process, ...] = ()
        self._death_noted = False

    def begin(self) -> None:
        """Forget those of the last run, and note the agent's, if it has one."""
        self._seen = ()
        self._death_noted = False
        self.note()

    def note(self) -> None:
        """Note the one that is there now, and that its sockets are to go with this process."""
        cores = [child for child in self._children() if is_own_core(child) and not _is_zombie(child)]
        for core in cores:
            scratch.note(core.pid)
        self._seen += tuple(cores)

    def note_death(self) -> None:
        """Note that the client has found it dead, and waited for it: no zombie will tell."""
        self._death_noted = True

    def was_killed(self) -> bool:
        """Whether one of them has died without the client's doing, or one that nobody has noted.

        One may be killed while `wandb.init()` waits for it, or between two runs: the next one's
        `wandb.init()` raises then, before there is anything to note.
        """
        if self._death_noted or any(_is_zombie(process) for process in self._seen):
            return True
        return any(_has_been_killed(child) for child in self._children())


def _has_been_killed(process: psutil.Process) -> bool:
    """Whether it is a wandb-core that a signal has ended: those of children of `main` end by themselves.

    Looked at without waiting for it, which its Popen does (not on macOS: it counts as ended by itself).
    """
    try:
        if process.name() != NAME or not _is_zombie(process) or not hasattr(os, "waitid"):
            return False
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (psutil.Error, ChildProcessError):
        return False
    return ended is not None and ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
