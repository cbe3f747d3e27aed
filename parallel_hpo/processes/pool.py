"""The session's side of the fork server: starts children, collects their ends, kills them (`ChildPool`).

    ChildPool ──socket──▶ fork server process ──▶ children (workers, calls)

If the fork server dies, its children become the session's (a child subreaper), which watches them by pidfd,
and a new fork server makes the next ones.

`ChildCalls` calls functions in children, where wandb may be imported, with a timeout. These calls don't
notice stops: the main thread makes them through `StopAware.call`, and closes the children after a stop.
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

from parallel_hpo.core.child_spec import CallResult, ChildCall, ChildSetup, Preload, Reaped, WorkerSpec
from parallel_hpo.core.errors import BackendError, WorkerStartError
from parallel_hpo.core.retry import retry
from parallel_hpo.processes.fork_server import (
    COMMAND,
    SCARCE_S,
    Child,
    ForkServerHandle,
    ResourcesExhaustedError,
    open_pidfd,
    wait_status,
)
from parallel_hpo.processes.reaper import MARK
from parallel_hpo.worker import tree

PRELOAD = ("wandb", "parallel_hpo.worker.worker")
"""Modules that every worker needs; wandb alone takes 0.5 s of each start."""
HANG_UP_S: Final = 0.1
"""Interval in seconds of `hang_up` while the pool closes and another thread waits for the fork server."""
BUSY_S: Final = 0.05
"""Timeout in seconds for another thread's spawn, which takes milliseconds, so that the loop stays
responsive."""
BLIND_S: Final = 0.2
"""Poll interval in seconds for children whose ends nothing reports."""


class ChildPool:
    """All children of one sweep; usable from several threads."""

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
        """Keep the arguments; `open` starts the fork server.

        Args:
            environment: the fork server's, with a MARK.
            fresh: each child is a new interpreter.
            preload: the user's modules to import once.
            sys_path: where to find these; empty: the fork server's own path.
            command: starts the fork server, with its socket as an argument.
        """
        order = Preload() if fresh else Preload(PRELOAD, preload, sys_path)
        self._server = ForkServerHandle(environment, order, command=command, on_death=self._take_orphans)
        self._mark = environment[MARK]
        self._fresh = fresh
        self._open_pidfd = open_pidfd
        self._lock = threading.RLock()
        self._children: dict[int, Child] = {}
        self._orphans: set[int] = set()
        self._closing = False
        self._closed = False

    def open(self) -> None:
        """Start the fork server, without waiting until it is ready."""
        self._was_subreaper = tree.become_subreaper()
        self._server.start()

    def wait_until_ready(self) -> None:
        """Wait for the fork server's imports; errors have the traceback.

        Raises:
            ConfigError: a module of `hpo.preload` can't be imported.
            WorkerStartError: the fork server can't start, or the pool was closed.
        """
        with self._lock:
            self._server.await_ready()

    @property
    def warning(self) -> str:
        """Return a warning about preloaded modules, once the fork server is ready."""
        return self._server.warning

    @property
    def line(self) -> int:
        """Return the descriptor that is readable when `collect` is due."""
        return self._server.fileno()

    @property
    def orphan_fds(self) -> list[int]:
        """Return descriptors of children without a fork server; readable at their ends."""
        with self._if_free() as free:
            orphans = self._orphans if free else ()
            return [fd for pid in orphans if (fd := self._children[pid].pidfd) is not None]

    @property
    def look_after_s(self) -> float | None:
        """Return the poll interval for `collect` in seconds; None: descriptors report all ends.

        Without pidfds (macOS), nothing reports the end of a child without a fork server.
        """
        with self._if_free() as free:
            blind = not free or any(self._children[pid].pidfd is None for pid in self._orphans)
        return BLIND_S if blind else None

    def spawn(self, calling: WorkerSpec | ChildCall) -> Child:
        """Start a child and send it its spec.

        Raises:
            WorkerStartError: even a new fork server can't make one, or the pool is closed.
            ResourcesExhaustedError: the system has no process or descriptor for it now.
        """
        with self._lock:
            if self._closing:
                raise WorkerStartError("no child can be started any more: the sweep is ending")
            child = self._spawn()
            self._children[child.pid] = child
        with contextlib.suppress(OSError):  # it may have died already; its end will be reported
            child.connection.send(calling)
        return child

    def collect(self) -> list[tuple[Reaped, Child]]:
        """Return the children that ended since the last call, with their whole trees.

        Their pipes may still have last messages; the caller closes these pipes.
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
        """Take the lock, unless another thread is spawning a child, which may wait for imports or hang.

        The loop must stay responsive to stops.
        """
        free = self._lock.acquire(timeout=BUSY_S)
        try:
            yield free
        finally:
            if free:
                self._lock.release()

    def close(self) -> None:
        """Kill all children that are left, and end the fork server."""
        self._closing = True
        while not self._lock.acquire(timeout=HANG_UP_S):
            self._server.hang_up()  # an abandoned thread waits for its answer
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
        tree.clear_all(lambda mark: mark == self._mark, tempfile.gettempdir())  # files of killed processes
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
        """Take over the children of a dead fork server."""
        reported = {reaped.pid for reaped in self._server.reports}
        self._orphans.update(self._children.keys() - reported)

    def _reap_orphans(self) -> None:
        for pid in list(self._orphans):
            status = wait_status(pid)
            if status is not None:
                self._orphans.discard(pid)
                self._kill_strays()
                self._server.reports.append(Reaped(pid, status))

    def _kill_strays(self) -> None:
        """Kill our children that have the sweep's owner id and are not in the pool.

        The user's own children have no owner id, and stay.
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
"""Bytes of a call's last output kept for the error message."""


class ChildCalls:
    """Calls functions, each in its own child."""

    def __init__(self, children: ChildPool, surroundings: ChildSetup) -> None:
        """`surroundings` are common to all children; each call may add variables."""
        self._children = children
        self._surroundings = surroundings

    def run(
        self, function: str, arguments: tuple[Any, ...], environment: Mapping[str, str], limit_s: float
    ) -> Any:
        """Return what `function` ("module:name") returned.

        Raises:
            BackendError: it raised (with its message), died, or took longer than `limit_s`.
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
        try:
            return retry(
                lambda: self._children.spawn(call),
                ResourcesExhaustedError,
                within_s=limit_s,
                every_s=SCARCE_S,
            )
        except ResourcesExhaustedError as error:
            raise BackendError(f"no process for it: {error}") from None

    def _await(self, child: Child, limit_s: float) -> CallResult:
        deadline = time.monotonic() + limit_s
        printed = b""
        sources: list[Connection | int] = [child.connection, child.output]
        while (left_s := deadline - time.monotonic()) > 0:
            ready = wait(sources, left_s)
            if child.output in ready:
                data = os.read(child.output, 65536)
                if not data:
                    sources.remove(child.output)  # it has closed its streams and continues
                printed = (printed + data)[-KEPT_OUTPUT_BYTES:]
            if child.connection in ready:
                return _receive(child, printed)
        output = _last_words(printed)
        raise BackendError(f"no answer within {limit_s:g} s{f'; its output: {output}' if output else ''}")


def _receive(child: Child, printed: bytes) -> CallResult:
    try:
        result = child.connection.recv()
    except (EOFError, OSError):
        output = _last_words(printed)
        raise BackendError(f"the child died before its answer; its output: {output or 'nothing'}") from None
    assert isinstance(result, CallResult)
    return result


def _last_words(printed: bytes) -> str:
    """Return the end of what a call has printed, in one line."""
    return " ".join(printed.decode(errors="replace").split())[-500:]
