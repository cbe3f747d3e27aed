"""The fork server's process: imports what workers share once, then makes children on request.

    supervisor ──────Fork + 2 fds──────▶ fork server ──fork──▶ child: entry.enter()
               ◀─Forked|NotForked, Reaped─

All orphans below it come back to it (`tree`). A child is reported as Reaped only
when everything that it left is gone, so "dead" means its whole tree. When the
supervisor is gone, it kills all below it, until none is left, and ends.
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

from parallel_hpo.core.child_spec import Fork, Forked, NotForked, Preloaded, Reaped
from parallel_hpo.worker import entry, tree
from parallel_hpo.worker.preload import Imports, preload

FDS_PER_CHILD: Final = 2
SCARCE_S: Final = 0.2
"""After so long is tried again what the system had no descriptor for."""


class ForkServer:
    """One fork server; `line` is its end of the supervisor's socket, `fork` what makes its children."""

    def __init__(self, line: socket.socket, *, fork: Callable[[], int] = os.fork) -> None:
        self.line = line
        self.fork = fork
        self.connection = Connection(os.dup(line.fileno()))
        self.children: set[int] = set()
        self.ended: list[Reaped] = []
        self.selector = selectors.DefaultSelector()
        self.look_again = False

    def serve(self, imports: Imports) -> NoReturn:
        """Serve until the supervisor is gone; never returns."""
        # A batch system sends these to all of a job's processes; they are the supervisor's to decide, and
        # stay ignored in all that is forked from here, user code and its children included.
        for ignored in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(ignored, signal.SIG_IGN)
        tree.be_subreaper()
        tree.die_with_parent()  # imports may take long, and nothing is noticed meanwhile
        if _is_at_end(self.line):
            os._exit(0)
        gc.disable()  # an eighth of the time that the imports take
        # Modules make folders for good while they are imported (wandb two): they end with this process.
        self.folder = tree.make_folder()
        tempfile.tempdir = str(self.folder)
        signal.signal(signal.SIGTERM, lambda *_: self._leave())  # a stop does not wait for the imports
        preloaded = preload(imports)
        tempfile.tempdir = None
        tree.die_with_parent(False)
        self._say(preloaded)  # a supervisor that is gone is found so by the first turn
        gc.freeze()  # keeps what was imported out of the collector's reach, so that forks share its pages
        self._watch()
        while self._turn():
            pass
        tree.kill_all_below()
        self._leave()

    def _leave(self) -> NoReturn:
        """End, and leave nothing that imports made, or the children that are killed by now."""
        tree.clear(self.folder)
        os._exit(0)

    def _watch(self) -> None:
        """Wait on the supervisor's socket, its process, and on the deaths of children."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self.bell, self.bell_end = reader, writer
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        # What a terminal or a batch system sends to everyone is the supervisor's to decide.
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        self.selector.register(self.line, selectors.EVENT_READ)
        self.selector.register(reader, selectors.EVENT_READ)
        self.parent = _open_parent()
        if self.parent is not None:
            self.selector.register(self.parent, selectors.EVENT_READ)

    def _turn(self) -> bool:
        """Take what woke us; False: the supervisor is gone."""
        ready = [key.fd for key, _ in self.selector.select(SCARCE_S if self.look_again else None)]
        if self.parent in ready:
            return False
        if self.bell in ready:
            os.read(self.bell, 4096)
        self._reap()
        if self.line.fileno() in ready and not self._take_order():
            return False
        return self._report()

    def _take_order(self) -> bool:
        """Make the child that is asked for; False: the supervisor is gone."""
        try:
            order = self.connection.recv()
            _, fds, _, _ = socket.recv_fds(self.line, 1, FDS_PER_CHILD)
        except (EOFError, OSError):
            return False
        answer = self._make_child(order, fds)
        for fd in fds:
            os.close(fd)
        return self._say(answer)

    def _make_child(self, order: Fork, fds: list[int]) -> Forked | NotForked:
        """Fork; scarcity is no death, neither of the supervisor nor of us."""
        if len(fds) < FDS_PER_CHILD:  # recvmsg(2) leaves out what it has no descriptor for
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

    def _say(self, answer: Preloaded | Forked | NotForked | Reaped) -> bool:
        """Tell the supervisor; False: it is gone."""
        try:
            self.connection.send(answer)
        except OSError:
            return False
        return True

    def _become_child(self) -> None:
        """Drop what is the fork server's alone: its socket, its bell, its signal handlers."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        self.selector.close()
        os.close(self.bell)
        os.close(self.bell_end)
        self.line.close()
        self.connection.close()
        if self.parent is not None:
            os.close(self.parent)

    def _reap(self) -> None:
        """Collect the dead: children are to be reported, orphans that came to us are not."""
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
        """Report the dead once nothing that they left lives; False: the supervisor is gone."""
        try:
            dying = bool(self.ended) and self._kill_strays()
        except OSError as error:  # no descriptor to look with
            if not self.look_again:
                print(f"parallel_hpo: the fork server waits until it can go on: {error}", file=sys.stderr)
            self.look_again = True
            return True
        self.look_again = False
        if dying:
            return True
        ended, self.ended = self.ended, []
        return all(self._say(reaped) for reaped in ended)

    def _kill_strays(self) -> bool:
        """Kill what dead children left; True: some of it is still dying, and will ring the bell.

        Every living child is a subreaper itself, so a stray is never a living child's.
        """
        strays = [child for child in tree.children() if child.pid not in self.children]
        tree.kill_trees(strays)
        return bool(strays)


def _is_at_end(line: socket.socket) -> bool:
    """Whether the supervisor was gone before it could be noticed."""
    try:
        return not line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _open_parent() -> int | None:
    """Return a descriptor that becomes readable when the supervisor's process ends (Linux)."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(os.getppid())
    except OSError:
        return None


def _note(signum: int, frame: object) -> None:
    """Do nothing: the wakeup fd has noted the signal."""


def main() -> NoReturn:
    """Serve on the socket whose descriptor is the first argument; the second says what to preload."""
    line = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(line.fileno(), False)
    ForkServer(line).serve(Imports.from_argument(sys.argv[2]))


if __name__ == "__main__":
    main()
