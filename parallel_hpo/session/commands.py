"""Runs the user's commands, `on_end` and `on_failure`, with JSON on standard input and a timeout.

Each has its own process session, so a terminal's Ctrl-C does not reach it; the timeout kills the whole
session. Its output is read only if it fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, TextIO

from parallel_hpo.core.values import last_words

LIMIT_S: Final = 30.0
"""Timeout of a command, in seconds."""
_OUTPUT_BYTES: Final = 16384
"""Bytes read from the end of a command's output."""


class Commands:
    """Runs commands in the launch's environment and folder; usable from any thread."""

    def __init__(self, environment: Mapping[str, str], folder: str, *, limit_s: float = LIMIT_S) -> None:
        self._environment = dict(environment)
        self._folder = folder
        self._limit_s = limit_s
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._given_up = False

    def run(self, words: Sequence[str], text: str) -> str:
        """Run a command with `text` on standard input, and wait for its end; return why it failed, or ''."""
        try:
            with (
                tempfile.TemporaryFile("w+") as stdin,
                tempfile.TemporaryFile("w+", errors="replace") as output,
            ):
                stdin.write(text)
                stdin.seek(0)
                return self._await(self._start(words, stdin, output), output)
        except (OSError, ValueError) as error:  # ValueError: a null character in a word
            return f"can't be started: {error}"

    def give_up(self) -> None:
        """Kill running commands, and start no more."""
        with self._lock:
            self._given_up = True
            for process in self._running:
                _kill(process)

    def _start(self, words: Sequence[str], stdin: TextIO, output: TextIO) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._given_up:
                return None
            process = subprocess.Popen(
                words,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def _await(self, process: subprocess.Popen[str] | None, output: TextIO) -> str:
        if process is None:
            return "not run: the sweep was stopped"
        try:
            code = process.wait(self._limit_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
            return f"killed after {self._limit_s:g} s"
        finally:
            with self._lock:
                self._running.discard(process)
        if self._given_up and code < 0:
            return "killed: the sweep was stopped"
        return "" if code == 0 else f"{_name(code)}{_words(output)}"


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # already exited, not reaped yet
        os.killpg(process.pid, signal.SIGKILL)


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _words(output: TextIO) -> str:
    text = os.pread(output.fileno(), _OUTPUT_BYTES, max(0, os.fstat(output.fileno()).st_size - _OUTPUT_BYTES))
    words = last_words(text.decode(errors="replace"))
    return f": {words}" if words else ""
