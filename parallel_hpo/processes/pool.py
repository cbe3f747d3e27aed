"""The supervisor's side of the fork server: make children, hear of their ends, kill them.

    ChildPool ──socket──▶ fork server process ──▶ children (workers, calls)

Kept alive through the death of the fork server itself: its children come to the
supervisor (a child subreaper meanwhile), which then watches them by pidfd, and a
new fork server makes the next ones. Without policy: it knows processes only.

Calls of functions in children, where wandb may be imported, waited for with a deadline.

They hear no stops: the main thread makes them through `StopAware.call`, and closes the children after a stop.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any, Final

import psutil

from parallel_hpo.core.child_spec import CallResult, ChildCall, ChildSetup, Reaped, WorkerSpec
from parallel_hpo.core.errors import BackendError, WorkerStartError
from parallel_hpo.processes.fork_server import (
    COMMAND,
    Child,
    ForkServerHandle,
    ResourcesExhaustedError,
    open_pidfd,
    wait_status,
)
from parallel_hpo.processes.reaper import MARK
from parallel_hpo.worker import tree
from parallel_hpo.worker.preload import Imports

PRELOAD = ("wandb", "parallel_hpo.worker.worker")
"""What every worker needs; wandb alone is 0.5 s of each start."""
HANG_UP_S: Final = 0.1
"""How often a thread is told, while the pool is being closed, that it waits in vain."""
BUSY_S: Final = 0.05
"""A spawn takes milliseconds; one that takes longer is not waited for by who has others to hear."""
BLIND_S: Final = 0.2
"""How often children are looked at whose ends nothing tells of."""


class ChildPool:
    """All children of one sweep; may be used from more than one thread."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        fresh: bool,
        preload: tuple[str, ...],
        sys_path: tuple[str, ...] = (),
        command: tuple[str, ...] = COMMAND,
        open_pidfd: Callable[[int], int | None] = open_pidfd,
    ) -> None:
        """`environment` is the fork server's, and has a MARK; `fresh`: each child is a new interpreter.

        `preload` are the user's own modules, found on `sys_path`; empty: on that of the fork server.
        `command` starts the fork server, given its socket and what to import.
        """
        imports = Imports() if fresh else Imports(PRELOAD, preload, sys_path)
        self._server = ForkServerHandle(environment, imports, command=command, on_death=self._take_orphans)
        self._mark = environment[MARK]
        self._fresh = fresh
        self._open_pidfd = open_pidfd
        self._lock = threading.RLock()
        self._children: dict[int, Child] = {}
        self._orphans: set[int] = set()
        self._closing = False
        self._closed = False

    def open(self) -> None:
        """Start the fork server without waiting for it to be ready."""
        self._was_subreaper = tree.become_subreaper()
        self._server.start()

    def wait_until_ready(self) -> None:
        """Wait for the fork server's imports; raises the error, with their traceback, if one failed.

        Raises:
            ConfigError: a module that the user wants preloaded can't be.
            WorkerStartError: the fork server can't start, or the pool is closed meanwhile.
        """
        with self._lock:
            self._server.await_ready()

    @property
    def warning(self) -> str:
        """What the user should know of what was preloaded, once the fork server is ready."""
        return self._server.warning

    @property
    def line(self) -> int:
        """The descriptor that is readable when `collect` has something to do."""
        return self._server.fileno()

    @property
    def orphan_fds(self) -> list[int]:
        """Descriptors of children without a fork server; readable at their ends, which `collect` takes."""
        with self._if_free() as free:
            orphans = self._orphans if free else ()
            return [fd for pid in orphans if (fd := self._children[pid].pidfd) is not None]

    @property
    def look_after_s(self) -> float | None:
        """After so long `collect` is due though nothing is readable; None: all ends are told of.

        Where there are no pidfds (macOS), nothing tells of the end of a child without a fork server.
        """
        with self._if_free() as free:
            blind = not free or any(self._children[pid].pidfd is None for pid in self._orphans)
        return BLIND_S if blind else None

    def spawn(self, calling: WorkerSpec | ChildCall) -> Child:
        """Make a child and tell it what it is to be.

        Raises:
            WorkerStartError: not even a new fork server can make one, or the pool is closed.
            ScarcityError: the system has no process or descriptor for it now.
        """
        with self._lock:
            if self._closing:
                raise WorkerStartError("no child can be started any more: the sweep is being cleared away")
            child = self._spawn()
            self._children[child.pid] = child
        with contextlib.suppress(OSError):  # it may be dead already, as its end will say
            child.connection.send(calling)
        return child

    def collect(self) -> list[tuple[Reaped, Child]]:
        """Return the children that ended since the last call, each with nothing of its tree left.

        Their pipes may still hold what they said last; whoever spawned them closes those.
        """
        with self._if_free() as free:
            if not free:
                return []
            self._server.read()
            self._reap_orphans()
            ended, self._server.reports = self._server.reports, []
            self._orphans.difference_update(reaped.pid for reaped in ended)
            children = [(reaped, self._children.pop(reaped.pid)) for reaped in ended]
            for _, child in children:
                child.end()
            return children

    @contextlib.contextmanager
    def _if_free(self) -> Iterator[bool]:
        """Take the lock, unless another thread spawns a child, which may wait for imports or hang.

        The supervisor's loop must go on hearing stops meanwhile.
        """
        free = self._lock.acquire(timeout=BUSY_S)
        try:
            yield free
        finally:
            if free:
                self._lock.release()

    def close(self) -> None:
        """Kill whatever is left and end the fork server; nothing of the sweep's children lives afterwards."""
        self._closing = True
        while not self._lock.acquire(timeout=HANG_UP_S):
            self._server.hang_up()  # a thread that was given up waits for its word
        try:
            if not self._closed:
                self._closed = True
                self._end_all()
        finally:
            self._lock.release()

    def _end_all(self) -> None:
        self._server.end()
        for pid in list(self._orphans):
            self._children[pid].kill()
            tree.reap(pid)
        self._kill_strays()
        for child in self._children.values():
            child.end()
            child.connection.close()
        self._children.clear()
        tree.clear_all(lambda mark: mark == self._mark, tempfile.gettempdir())  # of those that were killed
        tree.become_subreaper(self._was_subreaper)

    def _spawn(self) -> Child:
        with ExitStack() as theirs, ExitStack() as if_it_fails:
            try:
                pipe, pipe_end = socket.socketpair()
                theirs.callback(pipe_end.close)
                if_it_fails.callback(pipe.close)
                output, output_end = os.pipe()
            except OSError as error:
                raise ResourcesExhaustedError(f"{error.strerror} in the supervisor (ulimit -n)") from None
            theirs.callback(os.close, output_end)
            if_it_fails.callback(os.close, output)
            pid = self._server.fork(pipe_end.fileno(), output_end, fresh=self._fresh)
            if_it_fails.pop_all()
        return Child(pid, Connection(pipe.detach()), output, self._open_pidfd(pid))

    # --- children whose fork server died -------------------------------------------

    def _take_orphans(self) -> None:
        """Note that the fork server is dead; its children have come to us."""
        told = {reaped.pid for reaped in self._server.reports}
        self._orphans.update(self._children.keys() - told)

    def _reap_orphans(self) -> None:
        for pid in list(self._orphans):
            status = wait_status(pid)
            if status is not None:
                self._orphans.discard(pid)
                self._kill_strays()
                self._server.reports.append(Reaped(pid, status))

    def _kill_strays(self) -> None:
        """Kill children of ours that bear the sweep's mark and are none of its known children.

        The user's own children lack the mark, so that they are left alone.
        """
        known = {*self._children, self._server.pid} if not self._closed else set()
        while strays := [child for child in psutil.Process().children() if self._is_stray(child, known)]:
            tree.kill_trees(strays)
            for stray in strays:
                tree.reap(stray.pid)

    def _is_stray(self, process: psutil.Process, known: set[int]) -> bool:
        if process.pid in known:
            return False
        try:
            return process.environ().get(MARK) == self._mark
        except (psutil.Error, OSError):
            return False


KEPT_OUTPUT_BYTES: Final = 20_000
"""Of what a call prints, so much of the end is kept for the error message."""
SCARCE_S: Final = 0.5
"""Between two tries where the system has no process or descriptor for a call."""


class ChildCalls:
    """Makes calls, each in a child of its own."""

    def __init__(self, children: ChildPool, surroundings: ChildSetup) -> None:
        """`surroundings` are every child's, but for the variables of its own."""
        self._children = children
        self._surroundings = surroundings

    def run(
        self, function: str, arguments: tuple[Any, ...], environment: Mapping[str, str], limit_s: float
    ) -> Any:
        """Return what `function` ("module:name") returned.

        Raises:
            BackendError: it raised (its exception in words), died, or took longer than `limit_s`.
        """
        own = replace(self._surroundings, environment={**self._surroundings.environment, **environment})
        child = self._spawn(ChildCall(own, function, arguments), limit_s)
        try:
            result = self._await(child, limit_s)
        except BaseException:
            child.kill()
            raise
        finally:
            os.close(child.output)
            child.connection.close()
        if result.error:
            raise BackendError(result.error)
        return result.value

    def _spawn(self, call: ChildCall, limit_s: float) -> Child:
        deadline = time.monotonic() + limit_s
        while True:
            try:
                return self._children.spawn(call)
            except ResourcesExhaustedError as error:
                if time.monotonic() > deadline:
                    raise BackendError(f"no process for it: {error}") from None
                time.sleep(SCARCE_S)

    def _await(self, child: Child, limit_s: float) -> CallResult:
        deadline = time.monotonic() + limit_s
        printed = b""
        sources: list[Connection | int] = [child.connection, child.output]
        while (left_s := deadline - time.monotonic()) > 0:
            ready = wait(sources, left_s)
            if child.output in ready:
                data = os.read(child.output, 65536)
                if not data:
                    sources.remove(child.output)  # it has closed its streams and goes on
                printed = (printed + data)[-KEPT_OUTPUT_BYTES:]
            if child.connection in ready:
                return _receive(child, printed)
        said = _last_words(printed)
        raise BackendError(f"no answer within {limit_s:g} s{f'; it said: {said}' if said else ''}")


def _receive(child: Child, printed: bytes) -> CallResult:
    try:
        result = child.connection.recv()
    except (EOFError, OSError):
        said = _last_words(printed)
        raise BackendError(f"the child that was to answer died; it said: {said or 'nothing'}") from None
    assert isinstance(result, CallResult)
    return result


def _last_words(printed: bytes) -> str:
    """Return the end of what a call has printed, in one line."""
    return " ".join(printed.decode(errors="replace").split())[-500:]
