"""Start of a child process: session, streams, environment, then the worker or a call.

The child reads its spec from its pipe, sets its environment before any user code runs, and becomes a worker
or answers a call. It never returns into the fork server's code.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Final, NoReturn

from parallel_hpo.core.child_spec import FAILED_TO_BEGIN, CallResult, ChildCall, ChildSetup, WorkerSpec
from parallel_hpo.core.errors import error_in_words
from parallel_hpo.worker import tree
from parallel_hpo.worker.cleanup import drop_inherited_exit_functions, leave
from parallel_hpo.worker.restore import reopen_stream

LEAST_NICE: Final = 19


def enter(pipe: int, output: int, *, fresh: bool) -> NoReturn:
    """Become what the spec on `pipe` says; standard streams go to `output`."""
    try:
        os.setsid()  # a terminal's Ctrl-C, and user code's killpg, stay within
        _redirect(output)
        if fresh:
            os.set_inheritable(pipe, True)
            os.execv(sys.executable, [sys.executable, "-m", "parallel_hpo.worker.entry", str(pipe)])
        drop_inherited_exit_functions()
        _live(Connection(pipe))
    except BaseException:  # noqa: BLE001 - nothing may return into the fork server's loop
        traceback.print_exc()
    os._exit(FAILED_TO_BEGIN)


def _live(connection: Connection) -> NoReturn:
    tree.become_subreaper()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spec = connection.recv()
    apply_setup(spec.surroundings)
    match spec:
        case WorkerSpec():
            with tree.importing():
                from parallel_hpo.worker.worker import Worker
            Worker(spec, connection).live()
        case ChildCall():
            with tree.importing():
                _answer(spec, connection)
    leave(0)


def _redirect(output: int) -> None:
    """Redirect standard streams: no input, line-buffered output to `output`."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = reopen_stream(getattr(sys, f"__{name}__"), fd)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def apply_setup(surroundings: ChildSetup) -> None:
    """Set this process's environment, path, cores, priority and folder."""
    os.environ.clear()
    os.environ.update(surroundings.environment)
    sys.path[:] = surroundings.sys_path
    if surroundings.cpus is not None:
        with contextlib.suppress(OSError):  # a core may have been taken away; any will do
            os.sched_setaffinity(0, surroundings.cpus)
    if surroundings.polite:
        lower_priority()
    try:
        os.chdir(surroundings.folder)
    except OSError as error:
        refuge = surroundings.environment.get("WANDB_DIR", "/")
        print(f"the working directory is gone ({error}): running in {refuge}", file=sys.stderr)
        os.chdir(refuge)


def lower_priority() -> None:
    """Give this process and its children the lowest priority for CPU and disk."""
    os.nice(LEAST_NICE)
    import psutil

    if hasattr(psutil, "IOPRIO_CLASS_IDLE"):  # Linux and Windows have it
        with contextlib.suppress(OSError, psutil.Error):  # some kernels lack it
            psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def _answer(call: ChildCall, connection: Connection) -> None:
    module, _, name = call.function.partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(*call.arguments)
        result = CallResult(value)
    except BaseException as error:  # noqa: BLE001 - the caller gets any error
        result = CallResult(error=error_in_words(error), traceback=traceback.format_exc())
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # before the answer: after it, the caller may end us
    connection.send(result)


def main() -> NoReturn:
    """Run in a fresh interpreter, with the pipe whose descriptor is the first argument."""
    pipe = int(sys.argv[1])
    os.set_inheritable(pipe, False)
    _redirect(os.dup(1))
    _live(Connection(pipe))


if __name__ == "__main__":
    main()
