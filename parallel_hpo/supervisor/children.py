"""The supervisor's side of the fork server: make children, hear of their ends, kill them.

    Nursery ──socket──▶ fork server process ──▶ children (workers, errands)

Kept alive through the death of the fork server itself: its children come to the
supervisor (a child subreaper meanwhile), which then watches them by pidfd, and a
new fork server makes the next ones. Without policy: it knows processes only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection

import psutil

from parallel_hpo.errors import ConfigError, WorkerStartError
from parallel_hpo.supervisor.child import Child, open_pidfd, wait_status
from parallel_hpo.supervisor.reaper import MARK
from parallel_hpo.worker import scratch, tree
from parallel_hpo.worker.preload import Imports
from parallel_hpo.worker.spec import Errand, Fork, Forked, Preloaded, Reaped, WorkerSpec

PRELOAD = ("wandb", "parallel_hpo.worker.worker")
"""What every worker needs; wandb alone is 0.5 s of each start."""
START_TRIES = 10
"""A fork server that is killed so often at its start would be killed again (by the OOM killer, say)."""


class Nursery:
    """All children of one sweep; may be used from more than one thread."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        fresh: bool,
        preload: tuple[str, ...],
        sys_path: tuple[str, ...] = (),
    ) -> None:
        """`environment` is the fork server's, and has a MARK; `fresh`: each child is a new interpreter.

        `preload` are the user's own modules, found on `sys_path`; empty: on that of the fork server.
        """
        self._environment = dict(environment)
        self._mark = environment[MARK]
        self._fresh = fresh
        self._imports = Imports() if fresh else Imports(PRELOAD, preload, sys_path)
        self.warning = ""
        """What the user should know of what was preloaded, once the fork server is ready."""
        self._lock = threading.RLock()
        self._children: dict[int, Child] = {}
        self._orphans: set[int] = set()
        self._reaped: list[Reaped] = []
        self._tokens = 0
        self._closed = False

    def open(self) -> None:
        """Start the fork server without waiting for it to be ready."""
        self._was_subreaper = tree.be_subreaper()
        self._start()

    def wait_until_ready(self) -> None:
        """Wait for the fork server's imports; raises the error, with their traceback, if one failed.

        Raises:
            ConfigError: a module that the user wants preloaded can't be.
            WorkerStartError: the fork server can't start.
        """
        with self._lock:
            self._await_ready()

    @property
    def line(self) -> int:
        """The descriptor that is readable when `collect` has something to do."""
        return self._line.fileno()

    @property
    def orphan_fds(self) -> list[int]:
        """Descriptors of children without a fork server; readable at their ends, which `collect` takes."""
        with self._lock:
            return [fd for pid in self._orphans if (fd := self._children[pid].pidfd) is not None]

    def bear(self, calling: WorkerSpec | Errand) -> Child:
        """Make a child and tell it what it is to be.

        Raises:
            WorkerStartError: not even a new fork server can make one, or the nursery is closed.
        """
        with self._lock:
            if self._closed:
                raise WorkerStartError("no child can be started any more: the sweep is being cleared away")
            child = self._bear_in_spite_of_deaths()
            self._children[child.pid] = child
        with contextlib.suppress(OSError):  # it may be dead already, as its end will say
            child.connection.send(calling)
        return child

    def collect(self) -> list[tuple[Reaped, Child]]:
        """Return the children that ended since the last call, each with nothing of its tree left.

        Their pipes may still hold what they said last; whoever had them born closes those.
        """
        with self._lock:
            self._read_line()
            self._reap_orphans()
            ended, self._reaped = self._reaped, []
            self._orphans.difference_update(reaped.pid for reaped in ended)
            children = [(reaped, self._children.pop(reaped.pid)) for reaped in ended]
            for _, child in children:
                child.end()
            return children

    def close(self) -> None:
        """Kill whatever is left and end the fork server; nothing of the sweep's children lives afterwards."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._connection.close()
            self._line.close()
            self._process.wait()
            for pid in list(self._orphans):
                self._children[pid].kill()
                tree.reap(pid)
            self._kill_strays()
            for child in self._children.values():
                child.end()
                child.connection.close()
            self._children.clear()
            scratch.clear_all(lambda mark: mark == self._mark)  # of those that were killed
            tree.be_subreaper(self._was_subreaper)

    # --- the fork server ---------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "parallel_hpo.worker.forkserver", str(theirs.fileno())]
            self._process = subprocess.Popen(
                [*command, self._imports.to_argument()],
                env=self._environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._line = ours
        self._connection = Connection(os.dup(ours.fileno()))
        self._ready = False

    def _await_ready(self) -> None:
        if self._ready:
            return
        for _ in range(START_TRIES):
            try:
                answer = self._connection.recv()
            except (EOFError, OSError):
                code = self._process.wait()
                if code != -signal.SIGKILL:
                    break
                self._restart()
                continue
            self._expect_fit(answer)
            self._ready = True
            return
        raise WorkerStartError(f"the fork server ended at its start (exit code {code}); its words are above")

    def _expect_fit(self, preloaded: Preloaded) -> None:
        """Raise the error of what was preloaded: the user's own where the module is the user's."""
        if preloaded.of_users:
            raise ConfigError(f"hpo.preload: {preloaded.error.rstrip()}")
        if preloaded.error:
            raise WorkerStartError(preloaded.error)
        self.warning = preloaded.warning

    def _restart(self) -> None:
        """Replace a dead fork server; its children have come to us."""
        self._connection.close()
        self._line.close()
        self._process.kill()
        self._process.wait()
        self._orphans.update(self._children.keys() - {reaped.pid for reaped in self._reaped})
        self._start()

    def _bear_in_spite_of_deaths(self) -> Child:
        for _ in range(START_TRIES):
            try:
                return self._bear()
            except (EOFError, OSError):
                self._restart()
        raise WorkerStartError(f"the fork server died {START_TRIES} times when it was asked for a child")

    def _bear(self) -> Child:
        self._await_ready()
        ours, theirs = socket.socketpair()
        output, output_end = os.pipe()
        with theirs:
            self._tokens += 1
            try:
                self._connection.send(Fork(self._tokens, self._fresh))
                socket.send_fds(self._line, [b"F"], [theirs.fileno(), output_end])
                pid = self._await_forked(self._tokens)
            except (EOFError, OSError):
                ours.close()
                os.close(output)
                raise
            finally:
                os.close(output_end)
        return Child(pid, Connection(ours.detach()), output, open_pidfd(pid))

    def _await_forked(self, token: int) -> int:
        while True:
            answer = self._connection.recv()
            match answer:
                case Forked(answered, pid) if answered == token:
                    return pid
                case Reaped():
                    self._reaped.append(answer)

    def _read_line(self) -> None:
        """Take the reports that have come; a fork server that is gone is replaced."""
        if not self._ready and self._connection.poll():
            self._await_ready()  # else what a new one says first would wake the loop for ever
        try:
            while self._ready and self._connection.poll():
                answer = self._connection.recv()
                if isinstance(answer, Reaped):
                    self._reaped.append(answer)
        except (EOFError, OSError):
            if not self._closed:
                self._restart()

    # --- children whose fork server died -------------------------------------------

    def _reap_orphans(self) -> None:
        for pid in list(self._orphans):
            status = wait_status(pid)
            if status is not None:
                self._orphans.discard(pid)
                self._kill_strays()
                self._reaped.append(Reaped(pid, status))

    def _kill_strays(self) -> None:
        """Kill children of ours that bear the sweep's mark and are none of its known children.

        The user's own children lack the mark, so that they are left alone.
        """
        known = {*self._children, self._process.pid} if not self._closed else set()
        while strays := [child for child in psutil.Process().children() if self._is_stray(child, known)]:
            for stray in strays:
                tree.kill_tree(stray)
            for stray in strays:
                tree.reap(stray.pid)

    def _is_stray(self, process: psutil.Process, known: set[int]) -> bool:
        if process.pid in known:
            return False
        try:
            return process.environ().get(MARK) == self._mark
        except (psutil.Error, OSError):
            return False
