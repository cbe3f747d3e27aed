"""Processes that stand ready to be what a command starts, without the second that their imports take.

    command ── fork, before it does anything ─▶ spare: waits
       └─ starts `python -m parallel_hpo.server …` ── words, environment, handles ─▶ it becomes that

A spare is the command's own child in a session of its own, as that would be, and is taken once: what is
started again after its death is a new interpreter. One that is not needed ends with the command.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

OF_THE_INTERPRETER: Final = ("PYTHON", "LD_", "DYLD_", "LANG", "LC_", "TZ")
"""Prefixes of variables that are heeded at an interpreter's start, which a fork has behind it."""
STARTED: Final = ("parallel_hpo.server", "parallel_hpo.worker.forkserver")
"""What a sweep's command starts."""
MOST_HANDLES: Final = 8
HIGH: Final = 200
"""Above any handle that is asked for."""
_new_interpreter: Final[Any] = subprocess._fork_exec  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Asked:
    """What a fork is to be: an interpreter with these words."""

    words: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    handles: Sequence[int] = ()
    """The numbers that the handles must have that come beside it."""

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: socket.socket) -> Asked:
        with line.makefile() as asking:
            return cls(**json.loads(asking.readline()))


def can_be_forked(environment: Mapping[str, str]) -> bool:
    """Whether a new interpreter in this environment would be like this one."""
    return _of_the_interpreter(environment) == _of_the_interpreter(os.environ)


def _of_the_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(OF_THE_INTERPRETER)}


class Spares:
    """The spares of one command, by what each can be, and the lines on which they wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[int, socket.socket]] = {}

    def make(self, module: str) -> Asked | None:
        """Make one, and return None; in the spare, return what it is to be once it is asked for."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid != 0:
            theirs.close()
            self._waiting[module] = (pid, ours)
            return None
        os.setsid()
        ours.close()
        for _, line in self._waiting.values():
            line.close()
        return _wait_on(theirs)

    def start(self, words: Sequence[str], *rest: Any) -> int:
        """Start a process, by the arguments of `subprocess`'s own function for that; return its id."""
        _, _, kept, folder, variables, stdin, _, _, stdout, _, stderr, _, alarm, *_ = rest
        environment = os.environ if variables is None else _decoded(variables)
        known = list(words[:2]) == [sys.executable, "-m"] and folder is None and can_be_forked(environment)
        if not known or words[2] not in self._waiting:
            return int(_new_interpreter(words, *rest))
        pid, line = self._waiting.pop(words[2])
        standard = [own if own >= 0 else inherited for inherited, own in enumerate([stdin, stdout, stderr])]
        passed = [handle for handle in kept if handle != alarm]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
        with line:
            socket.send_fds(line, [b"."], [*standard, *passed])
            line.sendall(Asked(list(words[1:]), str(Path.cwd()), environment, [0, 1, 2, *passed]).to_line())
        return pid


def _decoded(variables: Sequence[bytes]) -> dict[str, str]:
    pairs = (os.fsdecode(variable).partition("=") for variable in variables)
    return {name: value for name, _, value in pairs}


def _wait_on(line: socket.socket) -> Asked:
    """Return what is asked for, its handles in their places; end where the command does without it."""
    with line:
        handles = socket.recv_fds(line, 1, MOST_HANDLES)[1]
        if not handles:
            os._exit(0)
        asked = Asked.read(line)
    put(handles, asked.handles)
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
