"""The process that imports the command line once, and of which each call is a fork.

`tests.commanding` starts it, and asks for calls.

    test ── output, line ─▶ this ── fork ─▶ the command, which reads from the line what it is to be
         ◀─ its pid, its exit code ─ line ──┘

It has one thread and starts nothing by itself. A fork has the environment, the folder, the standard
streams and the `__main__` of `python -m parallel_hpo …`, and it ends as that does; `ps` alone shows it
with this process's arguments and variables.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

NUMBER: Final = struct.Struct("i")
"""How a pid and an exit code go over the line; a signal's code is negative."""
IMPORTED: Final = (
    "joblib",
    "parallel_hpo.cli.run",
    "parallel_hpo.cli.share",
    "parallel_hpo.cli.verbs",
    "parallel_hpo.hpo.kinds.wandb_sweeps",
    "unicodedata",
)
"""What most commands import, some of it late."""


class Forks:
    """The commands that have not ended, and the lines on which their ends are told."""

    def __init__(self) -> None:
        self._lines: dict[int, socket.socket] = {}

    def start(self, line: socket.socket) -> bool:
        """Fork, and tell its pid on the line; return whether this is the fork."""
        with _no_end_is_noticed():
            pid = os.fork()
            if pid != 0:
                self._lines[pid] = line
                _tell(line, pid)
        return pid == 0

    def reap(self, *_signal: object) -> None:
        """Tell the exit codes of those that have ended."""
        while self._lines:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._lines.pop(pid) as line:
                _tell(line, os.waitstatus_to_exitcode(status))

    def forget(self) -> None:
        """Close, in a fork, what is its siblings'."""
        for line in self._lines.values():
            line.close()


@contextmanager
def _no_end_is_noticed() -> Iterator[None]:
    """Put off SIGCHLD: a command may end before it is known."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _tell(line: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # the test has given it up
        line.sendall(NUMBER.pack(number))


def serve(control: socket.socket) -> socket.socket | None:
    """Fork for each call; return the line in each fork, and None once no more calls come."""
    forks = Forks()
    signal.signal(signal.SIGCHLD, forks.reap)
    while True:
        _, handles, _, _ = socket.recv_fds(control, 1, 3)
        if not handles:
            return None
        line = socket.socket(fileno=handles.pop())
        if forks.start(line):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            forks.forget()
            _speak_into(*handles)
            return line
        for handle in handles:
            os.close(handle)


def _speak_into(output: int, errors: int) -> None:
    """Have the standard streams of a new interpreter on these handles, and no input."""
    for number, handle in enumerate([os.open(os.devnull, os.O_RDONLY), output, errors]):
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def become(line: socket.socket) -> None:
    """Be the command that is asked for on the line."""
    with line, line.makefile() as asking:
        asked = json.loads(asking.readline())
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None  # found anew, by its own environment
    sys.path[0] = asked["folder"]  # as `python -m` has it
    sys.argv = ["-m", *asked["words"]]
    runpy.run_module("parallel_hpo", run_name="__main__", alter_sys=True)


def main() -> None:
    """Serve the socket whose handle is the only argument."""
    for name in IMPORTED:
        importlib.import_module(name)
    line = None
    with suppress(KeyboardInterrupt):  # the whole test session is interrupted
        line = serve(socket.socket(fileno=int(sys.argv[1])))
    if line is not None:
        become(line)


if __name__ == "__main__":
    main()
