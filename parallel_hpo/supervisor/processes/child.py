"""One child of the pool, as its supervisor holds it: a pid that can't be mistaken, a pipe, its output."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

import psutil

from parallel_hpo.protocol.spec import EXIT_WORDS

SCARCE: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)
"""What the system says where it has no process, memory, descriptor or room left for now."""


class ScarcityError(Exception):
    """There is no child for now: the system had no process for it, or no descriptor; later it may have."""


@dataclass(slots=True)
class Child:
    """A living child: its process, our end of its pipe, and its output."""

    pid: int
    connection: Connection
    output: int
    """Readable end of the pipe that its standard streams go to; whoever takes it closes it."""
    pidfd: int | None
    """Becomes readable at its end (Linux)."""
    ended: bool = False

    def kill(self) -> None:
        """SIGKILL the process; the fork server kills what it leaves."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send the process a signal; one that has ended is fine."""
        if self.ended:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(self.pidfd, number)

    def end(self) -> None:
        """Note its end: its pid may be another's from now on."""
        if not self.ended and self.pidfd is not None:
            os.close(self.pidfd)
        self.ended = True


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None where there is no such thing."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def wait_status(pid: int) -> int | None:
    """Return the wait status of a child that ended, None while it lives."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None if psutil.pid_exists(pid) else int(signal.SIGKILL)
    return status if done else None


def name_death(status: int) -> str:
    """Return a wait status in words: `SIGKILL`, `exit 3`."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit {code} ({EXIT_WORDS[code]})" if code in EXIT_WORDS else f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def has_more(connection: Connection) -> bool:
    """Whether a child has said something that was not read yet; False where it can't any more."""
    try:
        return connection.poll()
    except OSError:
        return False
