"""The command line, called many times: one process imports it, and each call is a fork of that one.

A call is a process of its own, as from a shell, without the second that its imports take.
"""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO

from tests.forking import NUMBER
from tests.spares import StopSource, named

Done = subprocess.CompletedProcess[str]
ROOM: Final = 4_000, 30_000
"""Characters that the arguments and the variables of a process take at most which is a fork."""


class Command:
    """A command that was started: what a `subprocess.Popen` with pipes would be for it."""

    def __init__(self, line: socket.socket, stdout: TextIO, stderr: TextIO) -> None:
        self._line = line
        self.stdout = stdout
        self.stderr = stderr
        self._said: list[Future[str]] = []
        self.pid = self._read_number()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, or None where it has not ended."""
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code; raises TimeoutError where it has not ended in time (s)."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            self.returncode = self._read_number()
            self._line.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read what it says to the end, and wait for it; raises TimeoutError where that takes longer (s)."""
        if not self._said:
            readers = ThreadPoolExecutor(2)
            self._said = [readers.submit(_rest_of, stream) for stream in (self.stdout, self.stderr)]
            readers.shutdown(wait=False)
        stdout, stderr = (said.result(timeout) for said in self._said)
        self.wait(timeout)
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _read_number(self) -> int:
        (number,) = NUMBER.unpack(self._line.recv(NUMBER.size))
        return int(number)


def _rest_of(stream: TextIO) -> str:
    if stream.closed:
        return ""
    with stream:
        return stream.read()


class CommandLine:
    """Python with all that `parallel-hpo` imports, ready to be called."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def start(self, *words: str, folder: Path, environment: Mapping[str, str]) -> Command:
        """Start a command in a folder, with this environment and no stdin."""
        return self.python("-m", "parallel_hpo", *words, folder=folder, environment=environment)

    def python(
        self,
        *words: str,
        folder: Path,
        environment: Mapping[str, str],
        before: Callable[[], object] | None = None,
        starts: Sequence[str] | None = None,
        stdin: int | None = None,
    ) -> Command:
        """Start what Python would be with these words: `-m` and a module, `-c` and code, or a script.

        `stdin` is a handle of which it has a copy; none: there is nothing to be read. `before` is a
        module's function that it calls first, as a shell would do something before it becomes the
        interpreter; `starts` are the modules that it starts and that are to be forks, too.
        """
        nothing = os.open(os.devnull, os.O_RDONLY)
        stdout, output = os.pipe()
        stderr, errors = os.pipe()
        asked = StopSource(words, str(folder), dict(environment), before=named(before), starts=starts)
        line = self._ask(asked, [nothing if stdin is None else stdin, output, errors])
        for handle in (nothing, output, errors):
            os.close(handle)
        return Command(line, os.fdopen(stdout), os.fdopen(stderr))

    def onto(
        self,
        *words: str,
        streams: Sequence[int],
        folder: Path,
        environment: Mapping[str, str],
        before: Callable[[], object] | None = None,
        own_session: bool = False,
        starts: Sequence[str] | None = None,
    ) -> Command:
        """Start the same with these standard streams, of which it has copies."""
        asked = StopSource(
            *(words, str(folder), dict(environment)),
            own_session=own_session,
            before=named(before),
            starts=starts,
        )
        return Command(self._ask(asked, streams), io.StringIO(), io.StringIO())

    def _ask(self, asked: StopSource, streams: Sequence[int]) -> socket.socket:
        """Have a fork with these standard streams, and return the line on which its end is told."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"."], [*streams, theirs.fileno()])
        ours.sendall(asked.to_line())
        return ours

    def call(self, *words: str, folder: Path, environment: Mapping[str, str]) -> Done:
        """Perform a command, and wait for its end."""
        command = self.start(*words, folder=folder, environment=environment)
        stdout, stderr = command.communicate()
        return Done(["parallel-hpo", *words], command.wait(), stdout, stderr)


@contextmanager
def command_line() -> Iterator[CommandLine]:
    """Have the command line at hand."""
    control, other = socket.socketpair()
    words = [sys.executable, "-m", "tests.forking", str(other.fileno()), " " * ROOM[0]]
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # joblib imports numpy
    environment = os.environ | one_thread | {"ROOM": " " * ROOM[1]}
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        words, cwd=root, env=environment, stdin=subprocess.DEVNULL, pass_fds=[other.fileno()]
    ):
        with other:
            pass
        with control:
            yield CommandLine(control)
