"""Cleanup after a run (`ProcessCleanup`), and the orderly end of a child process (`leave`).

Libraries keep processes for their next use: loky's executor (joblib), multiprocessing's fork server and
resource tracker. Killing them would break the next run, so each is ended in its library's way, and starts
again when it is next used. All other processes are killed. If an object may still refer to one, the worker
is replaced, as the next run would find it dead. A `main` that leaves no process costs one check
(`tree.children`, 0.1 ms).

`leave` does what the interpreter does at exit: it calls functions of `atexit`, ends libraries' processes and
flushes open files. It does not use the interpreter's exit, which waits for threads that user code left, and
stops daemon threads (wandb's, CUDA's) amid their work.
"""

from __future__ import annotations

import atexit
import gc
import io
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, NoReturn

import psutil

from parallel_hpo.worker import tree
from parallel_hpo.worker.tree import is_core, is_own_core

LOKY: Final = ("joblib.externals.loky", "loky")
"""Names of loky; joblib has its own copy."""
CORE_TIMEOUT_S: Final = 10.0
"""Timeout for the end of a wandb-core, in seconds: it notices its process's end within 4 s, then sends its
data."""


class ProcessCleanup:
    """Ends the processes that runs leave; those from before the first run stay."""

    def __init__(self) -> None:
        self._ours = {child.pid for child in [*tree.children(), *_processes()]}

    def end(self, error: BaseException | None) -> str | None:
        """End the processes that the run left; return why this worker must be replaced, or None.

        A replaced worker ends the rest at its exit. `error` is what `main` raised; its frames hold objects
        of `main`.
        """
        if not self._found():
            return None
        if error is not None:
            traceback.clear_frames(error.__traceback__)
        end_executors()
        server = _fork_server()
        trackers = [tracker for tracker in _trackers() if self._has_left(tracker._pid)]
        kept = {getattr(server, "_forkserver_pid", None), *(tracker._pid for tracker in trackers)}
        reason = self._end_unknown(kept) or (_shared_problem() if trackers else None)
        if reason is not None:
            return reason
        if server is not None and self._has_left(server._forkserver_pid):
            _end_fork_server(server)
        for tracker in trackers:
            end_tracker(tracker)
        tree.kill_all_below(spare=self._is_ours)
        return None

    def _is_ours(self, child: psutil.Process) -> bool:
        return child.pid in self._ours or is_own_core(child)

    def _found(self) -> list[psutil.Process]:
        return [child for child in tree.children() if not self._is_ours(child)]

    def _has_left(self, pid: int | None) -> bool:
        return any(child.pid == pid for child in self._found())

    def _end_unknown(self, kept: Container[int | None]) -> str | None:
        """End all processes but `kept`; return in words those that did not end with `main`, or None."""
        found = self._living(_processes())
        if found or any(_is_alive(child) for child in self._found() if child.pid not in kept):
            gc.collect()  # a pool held only by a reference cycle ends its processes now
            _join_dropped_pools()
            found = self._living(_processes())
        words = [f"{process.name} ({process.pid})" for process in found]
        held = {process.pid for process in found}
        for process in found:
            process._config["daemon"] = True  # terminated at exit, where others are joined
        while unknown := [c for c in self._found() if c.pid not in kept and c.pid not in held]:
            for child in unknown:
                if not ends_with_others(child) and _is_alive(child):
                    words.append(f"{_name(child)} ({child.pid})")
                    tree.kill_tree(child)
            for child in unknown:
                tree.wait_or_kill(child, within_s=CORE_TIMEOUT_S if is_core(child) else tree.END_TIMEOUT_S)
        return f"its run left processes: {', '.join(words)}" if words else None

    def _living(self, processes: Iterable[Any]) -> list[Any]:
        return [process for process in processes if process.pid not in self._ours]


def end_library_processes() -> None:
    """End the processes of known libraries, as they would at exit."""
    end_executors()
    own = {child.pid for child in tree.children()}  # processes of the fork server serve others too
    server = _fork_server()
    if server is not None and server._forkserver_pid in own:
        _end_fork_server(server)
    for child in tree.children():
        if not ends_with_others(child):
            tree.kill_tree(child)  # before the trackers, as it may hold the pipe that they wait on
    for tracker in _trackers():
        if tracker._pid in own:
            end_tracker(tracker)
    tree.kill_all_below()


# --- what libraries keep ---------------------------------------------------------------


def end_executors() -> None:
    """End loky's executor with its processes; its next user gets a new one."""
    for name in LOKY:
        executor: Any = getattr(sys.modules.get(f"{name}.reusable_executor"), "_executor", None)
        if executor is not None and not executor._flags.shutdown:
            _try(getattr(executor, "terminate", executor.shutdown), kill_workers=True)


def _processes() -> list[Any]:
    """Return multiprocessing's living processes, which also reaps the dead ones.

    Don't kill them: a pool or manager ends them when it is collected or at exit, and hangs if they were
    killed.
    """
    process: Any = sys.modules.get("multiprocessing.process")
    return process.active_children() if process is not None else []


def _try(end: Callable[..., object], **arguments: Any) -> None:
    """Let a library end its processes; those left after a timeout are killed with the rest."""

    def attempt() -> None:
        with suppress(Exception):
            end(**arguments)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(tree.END_TIMEOUT_S)


def _fork_server() -> Any:
    return getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)


def _end_fork_server(server: Any) -> None:
    """End multiprocessing's fork server and its children, and reset its state."""
    tree.kill_tree(psutil.Process(server._forkserver_pid))
    with suppress(FileNotFoundError):  # its socket went with the folder at exit
        server._stop()
    util: Any = sys.modules["multiprocessing.util"]
    for finalizer in list(util._finalizer_registry.values()):
        if finalizer._callback is util._remove_temp_dir:  # the socket's; a new server makes a new one
            finalizer()


def _trackers() -> Iterator[Any]:
    """Yield the resource trackers that this process has started: multiprocessing's and loky's."""
    for name in ("multiprocessing", *(f"{name}.backend" for name in LOKY)):
        tracker: Any = getattr(sys.modules.get(f"{name}.resource_tracker"), "_resource_tracker", None)
        if tracker is not None and tracker._pid is not None and tracker._fd is not None:
            yield tracker


def end_tracker(tracker: Any) -> None:
    """Let a resource tracker unlink leaked resources and end; the next resource starts a new one."""
    with tracker._lock:
        os.close(tracker._fd)  # it waits for the end of its input
        with suppress(psutil.NoSuchProcess):
            tree.wait_or_kill(psutil.Process(tracker._pid))
        tracker._fd = tracker._pid = None


def _shared_problem() -> str | None:
    """Return what still uses shared memory or semaphores that their tracker would unlink, or None."""
    memory = getattr(sys.modules.get("multiprocessing.shared_memory"), "SharedMemory", ())
    semaphore = getattr(sys.modules.get("multiprocessing.synchronize"), "SemLock", ())
    gc.collect()
    for held in gc.get_objects() if memory or semaphore else ():
        kind: type = type(held)  # not isinstance, for which some objects warn or raise
        if issubclass(kind, memory) or (issubclass(kind, semaphore) and held._semlock.name is not None):
            return f"its run left a {kind.__name__} of multiprocessing in use"
    return None


def _join_dropped_pools() -> None:
    """Wait for unreferenced process pools (concurrent.futures), which are ending by themselves."""
    threads: Any = getattr(sys.modules.get("concurrent.futures.process"), "_threads_wakeups", ())
    deadline = time.monotonic() + tree.END_TIMEOUT_S
    for thread in list(threads):
        if thread.executor_reference() is None:
            thread.join(max(0.0, deadline - time.monotonic()))


# --- processes -------------------------------------------------------------------------


def ends_with_others(process: psutil.Process) -> bool:
    """Return whether a process only serves others, and ends after them."""
    return is_core(process) or tree.is_tracker(process)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def drop_inherited_exit_functions() -> None:
    """Drop the exit functions and finalizers that this fork inherited from its parent.

    The parent removes its temporary folders itself. Exit functions of the standard library are registered
    again, as multiprocessing does in its forks.
    """
    atexit._clear()
    finalizers: Any = weakref.finalize
    for finalizer in list(finalizers._registry):
        finalizer.atexit = False
        held = finalizer.peek()
        if held is not None and isinstance(held[0], tempfile.TemporaryDirectory):
            finalizer.detach()
    finalizers._registered_with_atexit = False  # the next finalizer registers them again
    atexit.register(logging.shutdown)
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        atexit.register(util._exit_function)


def leave(code: int) -> NoReturn:
    """End this process in order, printing what its exit functions raise."""
    _run_safely(atexit._run_exitfuncs)
    _run_safely(end_library_processes)
    _run_safely(flush_files)
    flush()
    os._exit(code)


def _run_safely(act: Callable[[], object]) -> None:
    try:
        act()
    except Exception:  # noqa: BLE001 - the process must end
        with suppress(Exception):  # standard error may be closed
            traceback.print_exc()


def flush_files() -> None:
    """Flush open files, outer ones before those that they wrap.

    Files implemented in Python (such as gzip's) are closed, as the interpreter would: they write their end
    then. Only the class of an object is checked, as isinstance makes some objects (torch's deprecated names)
    warn or raise.
    """
    files = [held for held in gc.get_objects() if issubclass(type(held), io.IOBase)]
    texts = [file for file in files if isinstance(file, io.TextIOWrapper)]
    buffers = [file for file in files if isinstance(file, io.BufferedWriter | io.BufferedRandom)]
    wrappers = [file for file in files if type(file).__module__ != "_io"]
    for act in (*(text.flush for text in texts), *(file.close for file in wrappers)):
        with suppress(Exception):  # closed, or of user code
            act()
    for buffer in buffers:
        with suppress(Exception):
            buffer.flush()


def flush() -> None:
    """Flush the standard streams, unless user code closed them."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # closed by user code
