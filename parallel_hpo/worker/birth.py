"""A child's first moments: its own session, its streams, its surroundings, its calling.

The child reads from its pipe what it is to be (`spec`), sets the environment before
any code of the user's runs, and becomes a worker or runs an errand. It never
returns into the fork server's code.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import NoReturn, TextIO

from parallel_hpo.worker import scratch, tree
from parallel_hpo.worker.leaving import forget_the_parents_ends, leave
from parallel_hpo.worker.spec import FAILED_AT_BIRTH, Errand, ErrandResult, Surroundings, WorkerSpec


def be_born(pipe: int, output: int, *, fresh: bool) -> NoReturn:
    """Become what the first message on `pipe` says; standard streams go to `output`."""
    try:
        os.setsid()  # the terminal's Ctrl-C, and a killpg of user code, reach nobody else
        _redirect(output)
        if fresh:
            os.set_inheritable(pipe, True)
            os.execv(sys.executable, [sys.executable, "-m", "parallel_hpo.worker.birth", str(pipe)])
        forget_the_parents_ends()
        _live(Connection(pipe))
    except BaseException:  # noqa: BLE001 - nothing may return into the fork server's loop
        traceback.print_exc()
    os._exit(FAILED_AT_BIRTH)


def _live(connection: Connection) -> NoReturn:
    tree.be_subreaper()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spec = connection.recv()
    _surround(spec.surroundings)
    match spec:
        case WorkerSpec():
            with scratch.importing():
                from parallel_hpo.worker.worker import Worker
            Worker(spec, connection).live()
        case Errand():
            with scratch.importing():
                _run_errand(spec, connection)
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


def renew(stream: TextIO | None, fd: int) -> TextIO:
    """Return a text stream onto one of the standard descriptors, which it never closes.

    It is the same object where that can be: wandb has wrapped its `write` on import, to send the
    console's lines to the server. It begins anew all the same, for it may be closed, or know of a
    file that was seekable.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    buffer = open(fd, "wb", closefd=False)  # noqa: SIM115 - the stream is its owner
    io.TextIOWrapper.__init__(
        stream, buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    return stream


def _surround(surroundings: Surroundings) -> None:
    os.environ.clear()
    os.environ.update(surroundings.environment)
    sys.path[:] = surroundings.sys_path
    if surroundings.cpus is not None:
        with contextlib.suppress(OSError):  # a core that was taken from us meanwhile: any will do
            os.sched_setaffinity(0, surroundings.cpus)
    try:
        os.chdir(surroundings.folder)
    except OSError as error:
        refuge = surroundings.environment.get("WANDB_DIR", "/")
        print(f"the working directory is gone ({error}): running in {refuge}", file=sys.stderr)
        os.chdir(refuge)


def _run_errand(errand: Errand, connection: Connection) -> None:
    module, _, name = errand.function.partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(*errand.arguments)
        result = ErrandResult(value)
    except BaseException as error:  # noqa: BLE001 - whatever it was, the one who sent us wants to know
        result = ErrandResult(error=describe(error), traceback=traceback.format_exc())
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # once it has answered, nobody waits for the folder to be removed
    connection.send(result)


def describe(error: BaseException) -> str:
    """Return an exception in one line, also one that can't be printed."""
    text = in_one_line(error)
    name = type(error).__name__
    return f"{name}: {text}"[:500] if text else name


def in_one_line(value: object) -> str:
    """Return a value's text with its line ends as spaces, or say that it has none."""
    try:
        return " ".join(str(value).split())
    except Exception:  # noqa: BLE001 - user code's __str__ may raise anything
        return "(its text can't be printed)"


def main() -> NoReturn:
    """Live as a fresh interpreter, on the pipe whose descriptor is the first argument."""
    pipe = int(sys.argv[1])
    os.set_inheritable(pipe, False)
    _redirect(os.dup(1))
    _live(Connection(pipe))


if __name__ == "__main__":
    main()
