"""The process that imports the command line once, and of which each call is a fork.

`tests.commanding` starts it, and asks for calls.

    test ── output, line ─▶ this ── fork ─▶ the command, which reads from the line what it is to be
         ◀─ its pid, its exit code ─ line ──┘

It has one thread and starts nothing by itself. A fork has the environment, the folder, the standard
streams and the `__main__` of `python -m parallel_hpo …`, and it ends as that does. So do the processes of
the sweep that it starts (`tests.spares`).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import multiprocessing.process
import os
import runpy
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from parallel_hpo.worker.cleanup import drop_inherited_exit_functions
from tests.spares import Spares, StopSource, put, show, started_by

NUMBER: Final = struct.Struct("i")
"""How a pid and an exit code go over the line; a signal's code is negative."""
IMPORTED: Final = (
    "joblib",
    "parallel_hpo.analysis.result",
    "parallel_hpo.analysis.table",
    "parallel_hpo.api.wandb_sweeps",
    "rich.console",
    "rich.table",
    "parallel_hpo.server.http.process",
    "parallel_hpo.worker.worker",
    "unicodedata",
    "uvicorn.lifespan.on",
    "uvicorn.loops.asyncio",
    "uvicorn.protocols.websockets.auto",
    "wandb",
)
"""What most commands import, some of it late, and what the processes do that they start."""


ASKED: Final = Path(__file__).with_name("asked.json")
"""What the client asks a server for in each sweep (release 0.31.0): a server checks each text once, and that
takes longer than most answers."""


class Forks:
    """The commands that have not ended, and the lines on which their ends are told."""

    def __init__(self) -> None:
        self._lines: dict[int, socket.socket] = {}

    def start(self, line: socket.socket) -> bool:
        """Fork, and tell its pid on the line; return whether this is the fork."""
        with _no_end_is_noticed():
            pid = os.fork()
            if pid != 0:
                self._lines[pid] = line
                _tell(line, pid)
        return pid == 0

    def reap(self, *_signal: object) -> None:
        """Tell the exit codes of those that have ended; a signal may call it within itself."""
        while self._lines:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # of the last one the outer call tells
                return
            if pid == 0:
                return
            with self._lines.pop(pid) as line:
                _tell(line, os.waitstatus_to_exitcode(status))

    def forget(self) -> None:
        """Close, in a fork, what is its siblings'."""
        for line in self._lines.values():
            line.close()


@contextmanager
def _no_end_is_noticed() -> Iterator[None]:
    """Put off SIGCHLD: a command may end before it is known."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _tell(line: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # the test has given it up
        line.sendall(NUMBER.pack(number))


def serve(control: socket.socket) -> socket.socket | None:
    """Fork for each call; return the line in each fork, and None once no more calls come."""
    forks = Forks()
    signal.signal(signal.SIGCHLD, forks.reap)
    while True:
        _, handles, _, _ = socket.recv_fds(control, 1, 4)
        if not handles:
            return None
        line = socket.socket(fileno=handles.pop())
        if forks.start(line):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            forks.forget()
            put(handles, [0, 1, 2])
            return line
        for handle in handles:
            os.close(handle)


def become(asked: StopSource) -> None:
    """Be what is asked for, as a new interpreter with these words would.

    They begin with `-m` and a module, `-c` and the code, or a script.
    """
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(asked.folder)
    os.environ.clear()
    os.environ.update(asked.environment)
    show([sys.executable, *asked.words], asked.environment)
    tempfile.tempdir = None  # found anew, by its own environment
    multiprocessing.process.ORIGINAL_DIR = asked.folder  # type: ignore[attr-defined]
    named = asked.environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in named if path and path not in sys.path]
    sys.argv = list(asked.words)
    match asked.words:
        case ["-m", module, *_]:
            sys.argv.pop(1)
            sys.path[0] = asked.folder
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *_]:
            sys.argv.pop(1)
            sys.path[0] = ""
            sys.modules["__main__"] = main = types.ModuleType("__main__")
            exec(compile(code, "<string>", "exec"), vars(main))
        case [script, *_]:
            sys.path[0] = str(Path(script).resolve().parent)
            runpy.run_path(script, run_name="__main__")


def with_spares(asked: StopSource) -> StopSource:
    """Have what a process is going to start stand ready; return what this one is to be: it, or that."""
    spares = Spares()
    for module in started_by(asked.words) if asked.starts is None else asked.starts:
        spare = spares.make(module)
        if spare is not None:
            return with_spares(spare)
    subprocess._fork_exec = spares.start  # type: ignore[attr-defined]
    return asked


def live(asked: StopSource) -> None:
    """Be what is asked for, until its end."""
    try:
        become(asked)
    except SystemExit as end:
        if isinstance(end.code, int) and asked.words[0] == "-m":  # a script may be about its end
            leave(end.code)
        raise


def leave(code: int) -> NoReturn:
    """End as an interpreter does, but for taking itself apart: most commands take a third of that."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def import_all(folder: str) -> None:
    """Import what forks need; folders that modules make are in this one then, and stay at a fork's end."""
    tempfile.tempdir = folder
    gc.disable()  # a fifth of the time that the imports take
    for name in IMPORTED:
        importlib.import_module(name)
    importlib.import_module("parallel_hpo.worker.agent_patch").import_early()
    documents = importlib.import_module("parallel_hpo.server.graphql.execute").load_documents()
    for asked in (
        importlib.import_module("parallel_hpo.client.server_client").CREATE,
        *json.loads(ASKED.read_text()),
    ):
        documents.read(asked)
    importlib.import_module("parallel_hpo.cli").command()
    importlib.import_module("parallel_hpo.cli.options").options()
    gc.enable()
    gc.freeze()  # forks share what is not looked through


def main() -> None:
    """Serve the socket whose handle is the first argument."""
    import_all(folder := tempfile.mkdtemp())
    line = None
    with suppress(KeyboardInterrupt):  # the whole test session is interrupted
        line = serve(socket.socket(fileno=int(sys.argv[1])))
    if line is None:
        shutil.rmtree(folder)
        return
    drop_inherited_exit_functions()  # however it ends: the folders of its imports are its siblings' too
    with line:
        asked = StopSource.read(line)
    asked.prepare()
    live(with_spares(asked))


if __name__ == "__main__":
    main()
