"""A real pseudo-terminal with an emulator behind it: the screen that a user of a command would see."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pyte

DEADLINE_S: Final = 60.0


def _take_terminal() -> None:
    """Control the terminal that stdin is, as the leader of a session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class PseudoTerminal:
    """A command that controls a terminal of its own; a context manager that kills it at the end."""

    def __init__(
        self,
        command: Sequence[str],
        /,
        *,
        env: Mapping[str, str],
        folder: Path,
        columns: int = 100,
        lines: int = 30,
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = b""
        """All that the command has written."""
        self._master, slave = pty.openpty()
        self._set_size(columns, lines)
        variables = {**env, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            command,
            env=variables,
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(DEADLINE_S)
        os.close(self._master)

    def rows(self) -> list[str]:
        """Return the lines on the screen, without the empty ones."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display if line.strip()]

    def wait_for(self, seen: Callable[[list[str]], object], what: str) -> list[str]:
        """Wait until `seen` accepts the lines of the screen, and return them."""
        deadline = time.monotonic() + DEADLINE_S
        while not seen(rows := self.rows()):
            assert time.monotonic() < deadline, f"never seen: {what}; but\n" + "\n".join(rows)
            time.sleep(0.02)
        return rows

    def resize(self, columns: int, lines: int) -> None:
        """Resize the terminal; long lines are cut, not wrapped."""
        with self._lock:
            self._screen.resize(lines, columns)
        self._set_size(columns, lines)

    def type(self, keys: bytes) -> None:
        """Press keys; Ctrl-C is b"\\x03"."""
        os.write(self._master, keys)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self) -> int:
        """Wait for the command's end and the rest of its output; return its exit code."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    @property
    def hides_cursor(self) -> bool:
        """Whether the command has left the cursor hidden, or ever hid it."""
        return b"\x1b[?25l" in self.raw

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: the other end is closed
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)
