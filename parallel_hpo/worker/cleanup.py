"""What a run leaves in its worker is ended before the next one: its processes, and what libraries keep.

Libraries keep processes for their next use: loky's executor (joblib), multiprocessing's fork server
and resource tracker. Killed under them, they break the next run; here each is ended as its library
would end it, so that it starts a new one when it is next used. All else that is alive is killed, and
whoever may still hold on to it would meet it dead in the next run: such a worker is replaced.

A `main` that leaves no process pays for one look (`tree.children`, 0.1 ms).

The orderly end of a child: what the interpreter does at its end, without waiting for threads.

Functions of `atexit` are called, what libraries keep is ended, files that are still open are flushed.
The interpreter's own way out is not taken: it waits for threads that user code left, and takes down
the daemons among them (wandb's, CUDA's) in the midst of what they do.
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
"""joblib brings a copy of its own."""
CORE_PATIENCE_S: Final = 10.0
"""A wandb-core notices within 4 s that its process is gone, and sends what it still has."""


class ProcessCleanup:
    """What runs leave in this process; what was there before the first one is not theirs, and stays."""

    def __init__(self) -> None:
        self._ours = {child.pid for child in [*tree.children(), *_processes()]}

    def end(self, error: BaseException | None) -> str:
        """End what the run left; return why this process can't go on as a fresh one, or ''.

        Where it can't, its way out ends the rest. `error` is what `main` raised, whose frames hold
        what `main` held.
        """
        if not self._found():
            return ""
        if error is not None:
            traceback.clear_frames(error.__traceback__)
        end_executors()
        server = _fork_server()
        trackers = [tracker for tracker in _trackers() if self._has_left(tracker._pid)]
        kept = {getattr(server, "_forkserver_pid", None), *(tracker._pid for tracker in trackers)}
        reason = self._end_unknown(kept) or (_why_shared() if trackers else "")
        if reason:
            return reason
        if server is not None and self._has_left(server._forkserver_pid):
            _end_fork_server(server)
        for tracker in trackers:
            end_tracker(tracker)
        tree.kill_all_below(spare=self._is_ours)
        return ""

    def _is_ours(self, child: psutil.Process) -> bool:
        return child.pid in self._ours or is_own_core(child)

    def _found(self) -> list[psutil.Process]:
        return [child for child in tree.children() if not self._is_ours(child)]

    def _has_left(self, pid: int | None) -> bool:
        return any(child.pid == pid for child in self._found())

    def _end_unknown(self, kept: Container[int | None]) -> str:
        """End all but `kept`; return which did not end with `main`, or ''."""
        found = self._living(_processes())
        if found or any(_is_alive(child) for child in self._found() if child.pid not in kept):
            gc.collect()  # a pool that only a cycle of references holds ends its processes now
            _join_dropped_pools()
            found = self._living(_processes())
        words = [f"{process.name} ({process.pid})" for process in found]
        held = {process.pid for process in found}
        for process in found:
            process._config["daemon"] = True  # terminated on the way out, where others are waited for
        while unknown := [c for c in self._found() if c.pid not in kept and c.pid not in held]:
            for child in unknown:
                if not ends_by_itself(child) and _is_alive(child):
                    words.append(f"{_name(child)} ({child.pid})")
                    tree.kill_tree(child)
            for child in unknown:
                tree.let_end(child, within_s=CORE_PATIENCE_S if is_core(child) else tree.PATIENCE_S)
        return f"its run left processes: {', '.join(words)}" if words else ""

    def _living(self, processes: Iterable[Any]) -> list[Any]:
        return [process for process in processes if process.pid not in self._ours]


def end_what_libraries_keep() -> None:
    """End what known libraries have started in this process and would end at its exit: the way out."""
    end_executors()
    own = {child.pid for child in tree.children()}  # what the fork server has started serves others too
    server = _fork_server()
    if server is not None and server._forkserver_pid in own:
        _end_fork_server(server)
    for child in tree.children():
        if not ends_by_itself(child):
            tree.kill_tree(child)  # before the trackers, for it may hold the pipe that they wait on
    for tracker in _trackers():
        if tracker._pid in own:
            end_tracker(tracker)
    tree.kill_all_below()


# --- what libraries keep ---------------------------------------------------------------


def end_executors() -> None:
    """End loky's executor with its processes; who uses it next is given a new one."""
    for name in LOKY:
        executor: Any = getattr(sys.modules.get(f"{name}.reusable_executor"), "_executor", None)
        if executor is not None and not executor._flags.shutdown:
            _try(getattr(executor, "terminate", executor.shutdown), kill_workers=True)


def _processes() -> list[Any]:
    """Return the living processes of multiprocessing's, which thereby takes note of the dead ones.

    They are no others' to kill: a pool or a manager ends them when it is collected, or on the way out,
    and hangs where they were killed under it.
    """
    process: Any = sys.modules.get("multiprocessing.process")
    return process.active_children() if process is not None else []


def _try(end: Callable[..., object], **arguments: Any) -> None:
    """Let a library end something; what it has not ended in time, or can't, is killed with the rest."""

    def attempt() -> None:
        with suppress(Exception):
            end(**arguments)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(tree.PATIENCE_S)


def _fork_server() -> Any:
    return getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)


def _end_fork_server(server: Any) -> None:
    """End multiprocessing's fork server, with all that it made, and let it forget that it was started."""
    tree.kill_tree(psutil.Process(server._forkserver_pid))
    with suppress(FileNotFoundError):  # its socket went with the folder, at the process's exit
        server._stop()
    util: Any = sys.modules["multiprocessing.util"]
    for finalizer in list(util._finalizer_registry.values()):
        if finalizer._callback is util._remove_temp_dir:  # of the server's socket; the next one gets another
            finalizer()


def _trackers() -> Iterator[Any]:
    """Yield the resource trackers that this process has started: multiprocessing's and loky's."""
    for name in ("multiprocessing", *(f"{name}.backend" for name in LOKY)):
        tracker: Any = getattr(sys.modules.get(f"{name}.resource_tracker"), "_resource_tracker", None)
        if tracker is not None and tracker._pid is not None and tracker._fd is not None:
            yield tracker


def end_tracker(tracker: Any) -> None:
    """Let a resource tracker unlink what has leaked, and end; the next resource starts a new one."""
    with tracker._lock:
        os.close(tracker._fd)  # the end of its input is what it waits for
        with suppress(psutil.NoSuchProcess):
            tree.let_end(psutil.Process(tracker._pid))
        tracker._fd = tracker._pid = None


def _why_shared() -> str:
    """Return what holds on to shared memory or semaphores whose names go with their tracker, or ''."""
    memory = getattr(sys.modules.get("multiprocessing.shared_memory"), "SharedMemory", ())
    semaphore = getattr(sys.modules.get("multiprocessing.synchronize"), "SemLock", ())
    gc.collect()
    for held in gc.get_objects() if memory or semaphore else ():
        kind: type = type(held)  # and not isinstance, which asks objects that may warn or raise
        if issubclass(kind, memory) or (issubclass(kind, semaphore) and held._semlock.name is not None):
            return f"its run left a {kind.__name__} of multiprocessing in use"
    return ""


def _join_dropped_pools() -> None:
    """Wait for process pools (concurrent.futures) that nobody holds any more: they are ending themselves."""
    threads: Any = getattr(sys.modules.get("concurrent.futures.process"), "_threads_wakeups", ())
    deadline = time.monotonic() + tree.PATIENCE_S
    for thread in list(threads):
        if thread.executor_reference() is None:
            thread.join(max(0.0, deadline - time.monotonic()))


# --- processes -------------------------------------------------------------------------


def ends_by_itself(process: psutil.Process) -> bool:
    """Whether it only serves others, and ends when they are gone."""
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


def forget_the_parents_ends() -> None:
    """Drop what the process that this one is a fork of had registered for its own end.

    Its temporary folders are its own to remove, also where nothing holds them here any more. What the
    standard library has registered for itself is there again, as multiprocessing does it in its forks.
    """
    atexit._clear()
    finalizers: Any = weakref.finalize
    for finalizer in list(finalizers._registry):
        finalizer.atexit = False
        held = finalizer.peek()
        if held is not None and isinstance(held[0], tempfile.TemporaryDirectory):
            finalizer.detach()
    finalizers._registered_with_atexit = False  # the next one that is made registers them anew
    atexit.register(logging.shutdown)
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        atexit.register(util._exit_function)


def leave(code: int) -> NoReturn:
    """End this process; what its functions of `atexit` raise, the interpreter prints."""
    _leave_quietly(atexit._run_exitfuncs)
    _leave_quietly(end_what_libraries_keep)
    _leave_quietly(flush_files)
    flush()
    os._exit(code)


def _leave_quietly(act: Callable[[], object]) -> None:
    try:
        act()
    except Exception:  # noqa: BLE001 - nothing may keep the process from its end
        with suppress(Exception):  # nobody may read what it says any more
            traceback.print_exc()


def flush_files() -> None:
    """Write out what files hold that are still open, from those that wrap others inwards.

    Those made in Python (gzip's, say) are closed, as their ends are written then; the interpreter
    does that with all. Of strange objects only the class is looked at: isinstance asks them too, and some
    (torch's deprecated names) warn or raise then.
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
    """Write out what the standard streams still hold; streams that user code closed are fine."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # closed by user code
