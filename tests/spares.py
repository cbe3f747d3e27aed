"""Processes that stand ready to be what a command starts, without the second that their imports take.

    command ── fork, before it does anything ─▶ spare: waits
       └─ starts `python -m parallel_hpo.server …` ── words, environment, handles ─▶ it becomes that

A spare is the command's own child in a session of its own, as that would be, and is taken once: what is
started again after its death is another one, or a new interpreter. One that is not needed ends with the
command.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from parallel_hpo.worker.cleanup import drop_inherited_exit_functions

OF_THE_INTERPRETER: Final = ("PYTHON", "LD_", "DYLD_", "LANG", "LC_", "TZ")
"""Prefixes of variables that are heeded at an interpreter's start, which a fork has behind it.

It heeds PYTHONPATH all the same.
"""
SERVER: Final = "parallel_hpo.server"
FORK_SERVER: Final = "parallel_hpo.worker.forkserver"
GUARD: Final = "parallel_hpo.cluster.guard"
HOST: Final = "parallel_hpo.cluster.host"
DOCTOR: Final = "parallel_hpo.doctor"
AGAIN: Final = "parallel_hpo.worker.rerun"
MOST_HANDLES: Final = 8
PREEXEC: Final = 20
"""Where the function that a child calls stands among the arguments of `subprocess`'s own."""
HIGH: Final = 64
"""Above any handle that is asked for, and below what a test allows at least."""
_new_interpreter: Final[Any] = subprocess._fork_exec  # type: ignore[attr-defined]


@dataclass(frozen=True)
class StopSource:
    """What a fork is to be: an interpreter with these words."""

    words: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    handles: Sequence[int] = ()
    """The numbers that the handles must have that come beside it."""
    own_session: bool = False
    before: Sequence[str] | None = None
    """A function that is called before all else: its module, its name, and its arguments."""
    starts: Sequence[str] | None = None
    """The modules that it starts, each in a process that is to be a fork; None: what its words tell."""

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: socket.socket) -> StopSource:
        with line.makefile() as asking:
            return cls(**json.loads(asking.readline()))

    def prepare(self) -> None:
        """Do what is done between the fork and the new interpreter's start."""
        if self.own_session:
            os.setsid()
        if self.before is not None:
            module, name, *arguments = self.before
            getattr(importlib.import_module(module), name)(*arguments)


def can_be_forked(environment: Mapping[str, str]) -> bool:
    """Whether a new interpreter in this environment would be like this one."""
    return _of_the_interpreter(environment) == _of_the_interpreter(os.environ)


def _of_the_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(OF_THE_INTERPRETER) and name != "PYTHONPATH"
    }


def started_by(words: Sequence[str]) -> tuple[str, ...]:
    """Return the modules that an interpreter with these words is going to start, each in a process."""
    match words:
        case ["-m", "parallel_hpo", "run", *_]:
            return (SERVER, FORK_SERVER)
        case ["-m", "parallel_hpo", "join", *_]:
            return (FORK_SERVER,)
        case ["-m", "parallel_hpo", "open", *_]:
            return (SERVER,)
        case ["-m", "parallel_hpo", "rerun", *_]:
            return (SERVER, AGAIN)
        case ["-m", "parallel_hpo", "doctor", *_] | ["-m", "parallel_hpo.doctor"]:
            return (FORK_SERVER,)
        case ["-m", "parallel_hpo.cluster.guard"]:
            return ("parallel_hpo", DOCTOR)
        case ["-m", "tests.processes.in_dask", *_]:
            return (SERVER, FORK_SERVER, HOST)
        case ["-m", "tests.processes.heading", *_]:
            return (SERVER, FORK_SERVER, GUARD, GUARD)
        case ["-m", module, *_] if module.startswith("parallel_hpo"):
            return ()
    return (SERVER, FORK_SERVER)


class Spares:
    """The spares of one process: what each can be, its id, and the line on which it waits."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, int, socket.socket]] = []

    def make(self, module: str) -> StopSource | None:
        """Make one, and return None; in the spare, return what it is to be once it is asked for."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid != 0:
            theirs.close()
            self._waiting.append((module, pid, ours))
            return None
        drop_inherited_exit_functions()  # however it ends: the folders of its imports are its siblings' too
        ours.close()
        for _, _, line in self._waiting:
            line.close()
        return _wait_on(theirs)

    def start(self, words: Sequence[str], *rest: Any) -> int:
        """Start a process, by the arguments of `subprocess`'s own function for that; return its id."""
        _, _, kept, folder, variables, stdin, _, _, stdout, _, stderr, _, alarm, _, own_session = rest[:15]
        environment = os.environ if variables is None else _decoded(variables)
        spare = self._take(words) if folder is None and can_be_forked(environment) else None
        if spare is None:
            return int(_new_interpreter(words, *rest))
        pid, line = spare
        standard = [own if own >= 0 else inherited for inherited, own in enumerate([stdin, stdout, stderr])]
        passed = [handle for handle in kept if handle != alarm]
        asked = StopSource(
            list(words[1:]),
            str(Path.cwd()),
            dict(environment),
            [0, 1, 2, *passed],
            own_session,
            named(rest[PREEXEC]),
        )
        resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
        with line:
            socket.send_fds(line, [b"."], [*standard, *passed])
            line.sendall(asked.to_line())
        return pid

    def _take(self, words: Sequence[str]) -> tuple[int, socket.socket] | None:
        """Return one that can be an interpreter with these words, and have it no more."""
        for number, (module, pid, line) in enumerate(self._waiting):
            if list(words[:3]) == [sys.executable, "-m", module]:
                del self._waiting[number]
                return pid, line
        return None


def named(function: Callable[[], object] | None) -> Sequence[str] | None:
    """Return how another process finds a function: its module, its name, and words that are its arguments."""
    if isinstance(function, partial):
        return (function.func.__module__, function.func.__name__, *function.args)
    return None if function is None else (function.__module__, function.__name__)


def _decoded(variables: Sequence[bytes]) -> dict[str, str]:
    pairs = (os.fsdecode(variable).partition("=") for variable in variables)
    return {name: value for name, _, value in pairs}


def _wait_on(line: socket.socket) -> StopSource:
    """Return what is asked for, its handles in their places; end where the command does without it."""
    with line:
        handles = socket.recv_fds(line, 1, MOST_HANDLES)[1]
        if not handles:
            os._exit(0)
        asked = StopSource.read(line)
    put(handles, asked.handles)
    asked.prepare()
    return asked


def put(handles: Sequence[int], places: Sequence[int]) -> None:
    """Have handles at these numbers, and close those that they had."""
    high = [HIGH + place for place in places]
    for handle, number in zip(handles, high, strict=True):
        os.dup2(handle, number, inheritable=False)
        os.close(handle)
    for number, place in zip(high, places, strict=True):
        os.dup2(number, place)
        os.close(number)


# --- how the process looks to others ----------------------------------------------------


def show(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Have others see these words and variables as this process's (Linux), as far as there is room for them.

    The variables that the process began with must be gone: they lie there.
    """
    try:
        told = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return
    words_begin, words_end, variables_begin, variables_end = map(int, told[45:49])
    _write(words_begin, words_end, words)
    _write(variables_begin, variables_end, [f"{name}={value}" for name, value in environment.items()])


def _write(begin: int, end: int, strings: Sequence[str]) -> None:
    room = end - begin
    data = b"".join(os.fsencode(string) + b"\0" for string in strings)[:room].ljust(room, b"\0")
    ctypes.memmove(begin, data, room)
