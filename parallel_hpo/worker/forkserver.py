"""The fork server's process: imports shared modules once, then forks children on request.

    supervisor ─────Preload, then Fork + 2 fds─────▶ fork server ──fork──▶ child: entry.enter()
               ◀─Preloaded, Forked|NotForked, Reaped─

All orphans below it become its children (`tree`). It reports a child as Reaped only when all processes that
it left have ended, so "dead" means the whole tree. When the supervisor has ended, it kills all its
descendants and ends.
"""

from __future__ import annotations

import errno
import gc
import os
import selectors
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final, NoReturn

from parallel_hpo.core.child_spec import Fork, Forked, NotForked, Preload, Preloaded, Reaped
from parallel_hpo.worker import entry, tree
from parallel_hpo.worker.preload import preload

FDS_PER_CHILD: Final = 2
SCARCE_S: Final = 0.2
"""Retry interval in seconds while the system has no free descriptor."""


class ForkServer:
    """One fork server; `line` is its end of the supervisor's socket, `fork` makes children."""

    def __init__(
        self,
        line: socket.socket,
        *,
        fork: Callable[[], int] = os.fork,
        preload: Callable[[Preload], Preloaded] = preload,
    ) -> None:
        self.line = line
        self.fork = fork
        self.preload = preload
        self.connection = Connection(os.dup(line.fileno()))
        self.children: set[int] = set()
        self.ended: list[Reaped] = []
        self.selector = selectors.DefaultSelector()
        self.retry_soon = False

    def serve(self) -> NoReturn:
        """Serve until the supervisor has ended; never returns."""
        # A batch system sends these to all processes of a job. Only the supervisor handles them; they stay
        # ignored in all forks, including user code and its children.
        for ignored in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(ignored, signal.SIG_IGN)
        tree.become_subreaper()
        tree.die_with_parent()  # imports may take long, and block all else
        try:
            order = self.connection.recv()
        except (EOFError, OSError):  # the supervisor ended before `die_with_parent` could notice
            os._exit(0)
        gc.disable()  # saves an eighth of the imports' time
        # Modules make permanent folders on import (wandb makes two); they are removed with this process.
        self.folder = tree.make_folder()
        tempfile.tempdir = str(self.folder)
        signal.signal(signal.SIGTERM, lambda *_: self._leave())  # a stop does not wait for imports
        preloaded = self.preload(order)
        tempfile.tempdir = None
        tree.die_with_parent(False)
        self._send(preloaded)  # if the supervisor has ended, the first turn notices
        gc.freeze()  # keeps imported objects out of collections, so that forks share their pages
        self._watch()
        while self._turn():
            pass
        tree.kill_all_below()
        self._leave()

    def _leave(self) -> NoReturn:
        """End, after removing files of imports and of killed children."""
        tree.clear(self.folder)
        os._exit(0)

    def _watch(self) -> None:
        """Set up the wait for the supervisor's socket and process, and for deaths of children."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self.wakeup, self.wakeup_end = reader, writer
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        # Only the supervisor handles signals that a terminal or a batch system sends to all.
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        self.selector.register(self.line, selectors.EVENT_READ)
        self.selector.register(reader, selectors.EVENT_READ)
        self.parent = _open_parent()
        if self.parent is not None:
            self.selector.register(self.parent, selectors.EVENT_READ)

    def _turn(self) -> bool:
        """Wait once and handle what happened; return False if the supervisor has ended."""
        ready = [key.fd for key, _ in self.selector.select(SCARCE_S if self.retry_soon else None)]
        if self.parent in ready:
            return False
        if self.wakeup in ready:
            os.read(self.wakeup, 4096)
        self._reap()
        if self.line.fileno() in ready and not self._take_order():
            return False
        return self._report()

    def _take_order(self) -> bool:
        """Fork the requested child; return False if the supervisor has ended."""
        try:
            order = self.connection.recv()
            _, fds, _, _ = socket.recv_fds(self.line, 1, FDS_PER_CHILD)
        except (EOFError, OSError):
            return False
        answer = self._make_child(order, fds)
        for fd in fds:
            os.close(fd)
        return self._send(answer)

    def _make_child(self, order: Fork, fds: list[int]) -> Forked | NotForked:
        """Fork; a lack of resources is reported, and ends no process."""
        if len(fds) < FDS_PER_CHILD:  # recvmsg(2) drops descriptors beyond the limit
            return NotForked(order.token, f"{os.strerror(errno.EMFILE)} in the fork server (ulimit -n)")
        try:
            pid = self.fork()
        except OSError as error:
            return NotForked(order.token, f"fork failed: {error.strerror}")
        if pid == 0:
            self._become_child()
            gc.enable()
            entry.enter(fds[0], fds[1], fresh=order.fresh)
        self.children.add(pid)
        tree.note_child(self.folder, pid)
        return Forked(order.token, pid)

    def _send(self, answer: Preloaded | Forked | NotForked | Reaped) -> bool:
        """Send to the supervisor; return False if it has ended."""
        try:
            self.connection.send(answer)
        except OSError:
            return False
        return True

    def _become_child(self) -> None:
        """Drop the fork server's own socket, wake-up pipe and signal handlers."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        self.selector.close()
        os.close(self.wakeup)
        os.close(self.wakeup_end)
        self.line.close()
        self.connection.close()
        if self.parent is not None:
            os.close(self.parent)

    def _reap(self) -> None:
        """Reap dead processes; note children for a report, but not adopted orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self.children:
                self.children.discard(pid)
                self.ended.append(Reaped(pid, status))

    def _report(self) -> bool:
        """Report dead children once all that they left has ended; return False if the supervisor has
        ended."""
        try:
            dying = bool(self.ended) and self._kill_strays()
        except OSError as error:  # no free descriptor
            if not self.retry_soon:
                print(f"parallel_hpo: the fork server is blocked and retries: {error}", file=sys.stderr)
            self.retry_soon = True
            return True
        self.retry_soon = False
        if dying:
            return True
        ended, self.ended = self.ended, []
        return all(self._send(reaped) for reaped in ended)

    def _kill_strays(self) -> bool:
        """Kill processes that dead children left; return whether some are still dying (SIGCHLD will follow).

        Every living child is a subreaper itself, so a stray never belongs to one.
        """
        strays = [child for child in tree.children() if child.pid not in self.children]
        tree.kill_trees(strays)
        return bool(strays)


def _open_parent() -> int | None:
    """Return a descriptor that becomes readable when the supervisor's process ends (Linux)."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(os.getppid())
    except OSError:
        return None


def _note(signum: int, frame: object) -> None:
    """Do nothing: the wakeup fd wakes the loop."""


def main(preload: Callable[[Preload], Preloaded] = preload) -> NoReturn:
    """Serve on the socket whose descriptor is the first argument."""
    line = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(line.fileno(), False)
    ForkServer(line, preload=preload).serve()


if __name__ == "__main__":
    main()
