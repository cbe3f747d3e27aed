"""Handles of a child and of the fork server: start, requests, replacement, end. Used by the pool.

A killed fork server is replaced, after a call of `on_death`: its children become ours. `hang_up` ends
another thread's wait for its answer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Final

import psutil

from parallel_hpo.core.child_spec import EXIT_WORDS, Fork, Forked, NotForked, Preload, Preloaded, Reaped
from parallel_hpo.core.errors import ConfigError, WorkerStartError
from parallel_hpo.core.retry import retry

SCARCE: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)
"""Errors of a system that lacks processes, memory, descriptors or disk space for now."""


class ResourcesExhaustedError(Exception):
    """The system has no process or descriptor for a child now; later it may have."""


@dataclass(slots=True)
class Child:
    """A living child: its process, our end of its pipe, and its output."""

    pid: int
    connection: Connection
    output: int
    """Readable end of the pipe of its standard streams; its user closes it."""
    pidfd: int | None
    """Becomes readable when it ends (Linux)."""
    ended: bool = False

    def kill(self) -> None:
        """SIGKILL the process; the fork server kills its descendants."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send the process a signal, unless it has ended."""
        if self.ended:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(self.pidfd, number)

    def end(self) -> None:
        """Note its end: its pid may be reused from now on."""
        if not self.ended and self.pidfd is not None:
            os.close(self.pidfd)
        self.ended = True


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None if the system has none."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def wait_status(pid: int) -> int | None:
    """Return the wait status of an ended child, None while it lives."""
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
    """Return whether a child's pipe has unread messages."""
    try:
        return connection.poll()
    except OSError:
        return False


START_TRIES: Final = 10
"""Tries to start a fork server: one killed more often (by the OOM killer, say) would be killed again."""
SCARCE_S: Final = 0.5
"""Wait in seconds between tries if the system lacks a process or descriptor."""
LEAVE_S: Final = 2.0
"""Timeout in seconds for a fork server's end; it kills its descendants in milliseconds."""


@dataclass(frozen=True, slots=True)
class ForkServerGone:
    """The fork server has ended, or its socket is broken."""


ForkServerAnswer = Preloaded | Forked | NotForked | Reaped | ForkServerGone

COMMAND: Final = (sys.executable, "-m", "parallel_hpo.worker.forkserver")


class ForkServerHandle:
    """The present fork server; for one thread at a time, except `hang_up`."""

    def __init__(
        self,
        environment: Mapping[str, str],
        order: Preload,
        *,
        command: tuple[str, ...],
        on_death: Callable[[], None],
    ) -> None:
        """`command` starts a fork server, with its socket as an argument."""
        self._environment = dict(environment)
        self._order = order
        self._command = command
        self._on_death = on_death
        self._tokens = 0
        self._hung_up = False
        self._ready = False
        self.reports: list[Reaped] = []
        """Reports of ended children; the caller empties the list."""
        self.warning = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor that is readable when `read` is due."""
        return self._line.fileno()

    def start(self) -> None:
        """Start it, without waiting until it is ready; raises WorkerStartError."""
        try:
            retry(self._launch, OSError, within_s=START_TRIES * SCARCE_S, every_s=SCARCE_S)
        except OSError as error:
            raise WorkerStartError(f"the fork server can't be started: {error}") from None
        with contextlib.suppress(OSError):  # it has died already, which `await_ready` notices
            self._connection.send(self._order)

    def await_ready(self) -> None:
        """Wait for its imports; raises ConfigError or WorkerStartError if one failed."""
        if self._ready:
            return
        for _ in range(START_TRIES + len(self._order.users)):
            match self._receive():
                case Preloaded(unfit="") as preloaded:
                    self._expect_fit(preloaded)
                    self._ready = True
                    return
                case Preloaded() as preloaded:
                    self._leave_out(preloaded)
                case _:
                    self._expect_wanted()
                    code = self._process.wait()
                    if code != -signal.SIGKILL:
                        break
                    self._restart()
        raise WorkerStartError(f"the fork server ended at its start (exit code {code}); its output is above")

    def fork(self, pipe: int, output: int, *, fresh: bool) -> int:
        """Fork a child with these two descriptors, and return its process id.

        Raises:
            WorkerStartError: even a new fork server can't make one.
            ResourcesExhaustedError: the system has no process or descriptor for it now.
        """
        for _ in range(START_TRIES):
            self.await_ready()
            match self._fork(pipe, output, fresh=fresh):
                case Forked(_, pid):
                    return pid
                case NotForked(_, reason):
                    raise ResourcesExhaustedError(reason)
                case ForkServerGone():
                    self._expect_wanted()
                    self._restart()
        raise WorkerStartError(f"the fork server died {START_TRIES} times when it was asked for a child")

    def read(self) -> None:
        """Read new reports; replace a fork server that has ended."""
        if not self._ready and self._has_more():
            self.await_ready()  # else a new one's first message would wake the loop forever
        while self._ready and self._has_more():
            answer = self._receive()
            if isinstance(answer, Reaped):
                self.reports.append(answer)
            elif isinstance(answer, ForkServerGone):
                if not self._hung_up:
                    self._restart()
                return

    def hang_up(self) -> None:
        """End all waits for its answers from now on; callable in any thread."""
        self._hung_up = True
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Let it end with its descendants; kill it after a timeout, and call `on_death`."""
        self._hung_up = True
        self._connection.close()
        self._line.close()
        if not self._ready:
            self._process.terminate()  # during imports it reads no messages
        try:
            self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self._on_death()

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as if_it_fails:
            if_it_fails.callback(ours.close)
            self._process = subprocess.Popen(
                [*self._command, str(theirs.fileno())],
                env=self._environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            if_it_fails.pop_all()
        self._line = ours
        self._connection = Connection(os.dup(ours.fileno()))
        self._ready = False

    def _restart(self) -> None:
        self._connection.close()
        self._line.close()
        self._process.kill()
        self._process.wait()
        self._on_death()
        self.start()

    def _expect_fit(self, preloaded: Preloaded) -> None:
        """Raise the error of a preload: ConfigError if the module is the user's."""
        if preloaded.of_users:
            raise ConfigError(f"hpo.preload: {preloaded.error.rstrip()}")
        if preloaded.error:
            raise WorkerStartError(preloaded.error)

    def _leave_out(self, preloaded: Preloaded) -> None:
        """Start again without a module of the user's that forks can't use."""
        self.warning = " · ".join(filter(None, (self.warning, f"hpo.preload: {preloaded.error}")))
        users = tuple(name for name in self._order.users if name != preloaded.unfit)
        self._order = replace(self._order, users=users)
        self._restart()

    def _expect_wanted(self) -> None:
        if self._hung_up:
            raise WorkerStartError("no child can be started any more: the sweep is ending")

    def _fork(self, pipe: int, output: int, *, fresh: bool) -> Forked | NotForked | ForkServerGone:
        """Request a child; other reports may come before the answer."""
        self._tokens += 1
        try:
            self._connection.send(Fork(self._tokens, fresh))
            socket.send_fds(self._line, [b"F"], [pipe, output])
        except OSError:
            return ForkServerGone()
        while True:
            match self._receive():
                case Forked(token) | NotForked(token) as answer if token == self._tokens:
                    return answer
                case Reaped() as reaped:
                    self.reports.append(reaped)
                case ForkServerGone() as gone:
                    return gone

    def _receive(self) -> ForkServerAnswer:
        """Wait for its next message."""
        try:
            answer: ForkServerAnswer = self._connection.recv()
        except (EOFError, OSError):
            return ForkServerGone()
        return answer

    def _has_more(self) -> bool:
        """Return whether `_receive` would return at once: with a message, or a broken socket."""
        try:
            return self._connection.poll()
        except OSError:
            return True
