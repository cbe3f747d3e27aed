"""Where a child begins: its own session, its streams, its surroundings, its calling.

The child reads from its pipe what it is to be (`spec`), sets the environment before
any code of the user's runs, and becomes a worker or answers a call. It never
returns into the fork server's code.
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
from parallel_hpo.worker.cleanup import forget_the_parents_ends, leave
from parallel_hpo.worker.restore import renew

LEAST_NICE: Final = 19


def enter(pipe: int, output: int, *, fresh: bool) -> NoReturn:
    """Become what the first message on `pipe` says; standard streams go to `output`."""
    try:
        os.setsid()  # the terminal's Ctrl-C, and a killpg of user code, reach nobody else
        _redirect(output)
        if fresh:
            os.set_inheritable(pipe, True)
            os.execv(sys.executable, [sys.executable, "-m", "parallel_hpo.worker.entry", str(pipe)])
        forget_the_parents_ends()
        _live(Connection(pipe))
    except BaseException:  # noqa: BLE001 - nothing may return into the fork server's loop
        traceback.print_exc()
    os._exit(FAILED_TO_BEGIN)


def _live(connection: Connection) -> NoReturn:
    tree.be_subreaper()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spec = connection.recv()
    surround(spec.surroundings)
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
    """Read nothing, write to `output`; lines leave at once, as they would on a terminal."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = renew(getattr(sys, f"__{name}__"), fd)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def surround(surroundings: ChildSetup) -> None:
    """Give this process its environment, its path, its cores and its folder."""
    os.environ.clear()
    os.environ.update(surroundings.environment)
    sys.path[:] = surroundings.sys_path
    if surroundings.cpus is not None:
        with contextlib.suppress(OSError):  # a core that was taken from us meanwhile: any will do
            os.sched_setaffinity(0, surroundings.cpus)
    if surroundings.polite:
        give_way()
    try:
        os.chdir(surroundings.folder)
    except OSError as error:
        refuge = surroundings.environment.get("WANDB_DIR", "/")
        print(f"the working directory is gone ({error}): running in {refuge}", file=sys.stderr)
        os.chdir(refuge)


def give_way() -> None:
    """Let this process, and all that it will start, have the least priority on processor and disk."""
    os.nice(LEAST_NICE)
    import psutil

    if hasattr(psutil, "IOPRIO_CLASS_IDLE"):  # Linux has it, and Windows
        with contextlib.suppress(OSError, psutil.Error):  # a kernel may be without
            psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def _answer(call: ChildCall, connection: Connection) -> None:
    module, _, name = call.function.partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(*call.arguments)
        result = CallResult(value)
    except BaseException as error:  # noqa: BLE001 - whatever it was, the one who sent us wants to know
        result = CallResult(error=error_in_words(error), traceback=traceback.format_exc())
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # once it has answered, nobody waits for the folder to be removed
    connection.send(result)


def main() -> NoReturn:
    """Live as a fresh interpreter, on the pipe whose descriptor is the first argument."""
    pipe = int(sys.argv[1])
    os.set_inheritable(pipe, False)
    _redirect(os.dup(1))
    _live(Connection(pipe))


if __name__ == "__main__":
    main()
