"""One child of the pool, as its supervisor holds it: a pid that can't be mistaken, a pipe, its output.

The fork server as the pool holds it: its process, its line, its start, its replacement, its end.

One that was killed is replaced, and its death told (`on_death`): its children come to us then.
Where another thread waits for its word, `hang_up` ends that wait.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Final

import psutil

from parallel_hpo.core.child_spec import EXIT_WORDS, Fork, Forked, NotForked, Preloaded, Reaped
from parallel_hpo.core.errors import ConfigError, WorkerStartError
from parallel_hpo.worker.preload import Imports

SCARCE: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)
"""What the system says where it has no process, memory, descriptor or room left for now."""


class ResourcesExhaustedError(Exception):
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


START_TRIES: Final = 10
"""A fork server that is killed so often at its start would be killed again (by the OOM killer, say)."""
SCARCE_S: Final = 0.5
"""Between two tries to start one where the system has no process or descriptor for it."""
LEAVE_S: Final = 2.0
"""One that is asked to leave kills all below it in milliseconds."""


@dataclass(frozen=True, slots=True)
class ForkServerGone:
    """The fork server has gone, or its line is broken: it will answer nothing more."""


ForkServerAnswer = Preloaded | Forked | NotForked | Reaped | ForkServerGone

COMMAND: Final = (sys.executable, "-m", "parallel_hpo.worker.forkserver")


class ForkServerHandle:
    """The living fork server, whichever it is; not for two threads at once, but for `hang_up`."""

    def __init__(
        self,
        environment: Mapping[str, str],
        imports: Imports,
        *,
        command: tuple[str, ...],
        on_death: Callable[[], None],
    ) -> None:
        """`command` starts one, given its socket and what to import."""
        self._environment = dict(environment)
        self._imports = imports
        self._command = command
        self._on_death = on_death
        self._tokens = 0
        self._hung_up = False
        self._ready = False
        self.reports: list[Reaped] = []
        """What it has told of ended children; whoever takes them empties the list."""
        self.warning = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Readable when `read` has something to do."""
        return self._line.fileno()

    def start(self) -> None:
        """Start it without waiting for it to be ready; WorkerStartError where that can't be had."""
        for tries_left in reversed(range(START_TRIES)):
            try:
                self._launch()
                return
            except OSError as error:
                if not tries_left:
                    raise WorkerStartError(f"the fork server can't be started: {error}") from None
                time.sleep(SCARCE_S)

    def await_ready(self) -> None:
        """Wait for its imports; raises ConfigError or WorkerStartError where one failed."""
        if self._ready:
            return
        for _ in range(START_TRIES + len(self._imports.users)):
            match self._hear():
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
        raise WorkerStartError(f"the fork server ended at its start (exit code {code}); its words are above")

    def fork(self, pipe: int, output: int, *, fresh: bool) -> int:
        """Have a child made that has these two descriptors, and return its process id.

        Raises:
            WorkerStartError: not even a new fork server can make one.
            ScarcityError: the system has no process or descriptor for it now.
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
        """Take the reports that have come; a fork server that is gone is replaced."""
        if not self._ready and self._has_more():
            self.await_ready()  # else what a new one says first would wake the loop for ever
        while self._ready and self._has_more():
            answer = self._hear()
            if isinstance(answer, Reaped):
                self.reports.append(answer)
            elif isinstance(answer, ForkServerGone):
                if not self._hung_up:
                    self._restart()
                return

    def hang_up(self) -> None:
        """End every wait for its word, from now on; from any thread."""
        self._hung_up = True
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Have it leave with all below it; one that does not in time is killed, and its death told."""
        self._hung_up = True
        self._connection.close()
        self._line.close()
        if not self._ready:
            self._process.terminate()  # while it imports it hears nothing else
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
                [*self._command, str(theirs.fileno()), self._imports.to_argument()],
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
        """Raise the error of what was preloaded: the user's own where the module is the user's."""
        if preloaded.of_users:
            raise ConfigError(f"hpo.preload: {preloaded.error.rstrip()}")
        if preloaded.error:
            raise WorkerStartError(preloaded.error)

    def _leave_out(self, preloaded: Preloaded) -> None:
        """Start again without a module of the user's that forks can't live with."""
        self.warning = " · ".join(filter(None, (self.warning, f"hpo.preload: {preloaded.error}")))
        users = tuple(name for name in self._imports.users if name != preloaded.unfit)
        self._imports = replace(self._imports, users=users)
        self._restart()

    def _expect_wanted(self) -> None:
        if self._hung_up:
            raise WorkerStartError("no child can be started any more: the sweep is being cleared away")

    def _fork(self, pipe: int, output: int, *, fresh: bool) -> Forked | NotForked | ForkServerGone:
        """Ask for a child; what comes before the answer is of others."""
        self._tokens += 1
        try:
            self._connection.send(Fork(self._tokens, fresh))
            socket.send_fds(self._line, [b"F"], [pipe, output])
        except OSError:
            return ForkServerGone()
        while True:
            match self._hear():
                case Forked(token) | NotForked(token) as answer if token == self._tokens:
                    return answer
                case Reaped() as reaped:
                    self.reports.append(reaped)
                case ForkServerGone() as gone:
                    return gone

    def _hear(self) -> ForkServerAnswer:
        """Wait for what it says next."""
        try:
            answer: ForkServerAnswer = self._connection.recv()
        except (EOFError, OSError):
            return ForkServerGone()
        return answer

    def _has_more(self) -> bool:
        """Whether `_hear` would not wait: it has said something, or its line is broken."""
        try:
            return self._connection.poll()
        except OSError:
            return True
