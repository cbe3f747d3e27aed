"""`parallel-hpo` and Python as processes with a folder and an environment, or as a call in this process."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final
from unittest.mock import patch

from parallel_hpo.cli import main

Done = subprocess.CompletedProcess[str]
MODULE: Final = ("-m", "parallel_hpo")
HANDLED: Final = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"))


class Started(subprocess.Popen[str]):
    """A process with pipes, whose output can be read line by line before `communicate`."""

    stdout: IO[str]
    stderr: IO[str]

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        """Read the rest of its output, and wait for its end."""
        assert input is None
        if not hasattr(self, "_rest"):
            readers = ThreadPoolExecutor(2)
            self._rest = [readers.submit(_read_rest, stream) for stream in (self.stdout, self.stderr)]
            readers.shutdown(wait=False)
        stdout, stderr = (rest.result(timeout) for rest in self._rest)
        self.wait(timeout)
        return stdout, stderr

    _rest: list[Future[str]]


def _read_rest(stream: IO[str]) -> str:
    if stream.closed:
        return ""
    with stream:
        return stream.read()


def start_python(
    *words: str,
    folder: Path,
    environment: Mapping[str, str],
    launcher: tuple[str, ...] = (),
    stdin: int | IO[str] = subprocess.DEVNULL,
    own_session: bool = False,
    before: Callable[[], object] | None = None,
) -> Started:
    """Start an interpreter with these words.

    `launcher` is a prefix such as `nohup`; `before` is called in the child before the interpreter.
    """
    return Started(
        [*launcher, sys.executable, *words],
        cwd=folder,
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=own_session,
        preexec_fn=before,
    )


def start_command(*words: str, folder: Path, environment: Mapping[str, str]) -> Started:
    """Start `parallel-hpo` with these words."""
    return start_python(*MODULE, *words, folder=folder, environment=environment)


def call_command(*words: str, folder: Path, environment: Mapping[str, str]) -> Done:
    """Call `parallel-hpo` with these words in this process, in this folder and environment."""
    stdout, stderr = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    code = 0
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "argv", ["parallel-hpo", *words]),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        _own_signal_handlers(),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        stdout.flush()
    printed = stdout.buffer.getvalue().decode()
    return Done(["parallel-hpo", *words], code, printed, stderr.getvalue())


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Restore the handlers that a command has replaced: processes would inherit ignored signals."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
