"""Writes workers' output into each slot's log, and passes whole lines to the user's display.

It has a thread of its own, so that neither a worker that prints 100 MB nor a terminal stopped by Ctrl-S
delays a decision. The log keeps what a progress bar overwrites by carriage returns; the display gets the
line's last state.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import BinaryIO, Final

from parallel_hpo.core.types import Slot

LOG_CAP_BYTES: Final = 256 * 1024 * 1024
"""Maximum size of a log; a note ends a full one."""
CHUNK_BYTES: Final = 65536
LINE_CAP_BYTES: Final = 65536
"""Maximum line; longer ones are passed on in pieces."""
CLOSE_LIMIT_S: Final = 2.0
"""Timeout of closing, in seconds: a writer that can't be killed may still hold its pipe."""

TAIL_LINES: Final = 200
TAIL_LINE_CHARS: Final = 10_000
"""Limits of a run's last lines kept in memory."""
TAIL_READS: Final = 64
"""Maximum reads for a tail (4 MB): it has all output until the request, but a slot may print without
pause."""

_Tail = partial[deque[str]](deque, maxlen=TAIL_LINES)


class LineCutter:
    """Cuts a stream into lines; a carriage return restarts its line."""

    def __init__(self) -> None:
        self._rest = b""
        self._in_pieces = False
        """A part of the unfinished line was passed on already."""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that `data` completes, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._in_pieces:
            self._in_pieces = False
            if not lines[0].rstrip(b"\r"):
                del lines[0]  # the end of a line passed on in pieces
        # Of an unfinished line, only the text after its last carriage return is visible.
        visible = self._rest.rstrip(b"\r")
        self._rest = visible[visible.rfind(b"\r") + 1 :] + self._rest[len(visible) :]
        if len(self._rest) > LINE_CAP_BYTES:
            lines.append(self._rest)
            self._rest, self._in_pieces = b"", True
        return [_last_state(line) for line in lines]

    @property
    def unfinished(self) -> list[str]:
        """Return the visible part of an unfinished line."""
        return [_last_state(self._rest)] if self._rest else []

    def end(self) -> list[str]:
        """Return the last line of the stream, if it had no line end."""
        rest, self._rest = self._rest, b""
        return [_last_state(rest)] if rest else []


def _last_state(line: bytes) -> str:
    text = line.rstrip(b"\r")
    return text[text.rfind(b"\r") + 1 :].decode(errors="replace")


class Log:
    """One slot's `output.log`, continued over restarts, up to a maximum size."""

    def __init__(self, path: Path, cap_bytes: int = LOG_CAP_BYTES) -> None:
        self._path = path
        self._left = cap_bytes
        self._file: BinaryIO | None = None
        self.write(b"")

    def write(self, data: bytes) -> None:
        """Append; a full disk or a lack of descriptors loses output, but never a run."""
        try:
            file = self._file or self._open()
            if self._left <= 0:
                return
            file.write(data[: self._left])
            self._left -= len(data)
            if self._left <= 0:
                file.write(b"\n[parallel_hpo: this log has reached its cap; the rest is not kept]\n")
        except OSError:
            return

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab", buffering=0)
        self._left -= self._file.tell()
        return self._file


class OutputPump(threading.Thread):
    """Reads all workers' output; `show` gets (slot, line) in this thread."""

    def __init__(self, folder: Path, show: Callable[[Slot, str], None]) -> None:
        super().__init__(name="parallel_hpo-output", daemon=True)
        self._folder = folder
        self._show = show
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_end = os.pipe()
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._new: list[tuple[int, Slot]] = []
        self._logs: dict[Slot, Log] = {}
        self._streams: dict[int, tuple[Slot, LineCutter]] = {}
        self._closing = False
        self._active: set[Slot] = set()
        self._tails: dict[Slot, deque[str]] = defaultdict(_Tail)
        self._asked: list[tuple[Slot, Future[list[str]]]] = []

    def take_active(self) -> set[Slot]:
        """Return the slots that printed something since the last call."""
        with self._lock:
            active, self._active = self._active, set()
        return active

    def begin_tail(self, slot: Slot) -> None:
        """Drop the slot's last lines: a new run begins."""
        with self._lock:
            self._tails[slot] = _Tail()

    def tail(self, slot: Slot) -> Future[list[str]]:
        """Return the slot's last lines up to now, once they are read."""
        asked: Future[list[str]] = Future()
        with self._lock:
            self._asked.append((slot, asked))
        os.write(self._wakeup_end, b"?")
        return asked

    def add(self, fd: int, slot: Slot) -> None:
        """Read `fd` as the output of `slot` until its end, then close it."""
        with self._lock:
            self._new.append((fd, slot))
        os.write(self._wakeup_end, b"+")

    def close(self) -> None:
        """Read the rest (all writers have ended), and end the thread."""
        self._closing = True
        os.write(self._wakeup_end, b"-")
        self.join(CLOSE_LIMIT_S)
        if self.is_alive():
            return
        for log in self._logs.values():
            log.close()
        for fd in (self._wakeup, self._wakeup_end):
            os.close(fd)
        self._selector.close()

    def run(self) -> None:
        while not self._closing or self._streams or self._new:
            for key, _ in self._selector.select():
                if key.fd == self._wakeup:
                    os.read(self._wakeup, 4096)
                    self._take_new()
                    self._answer()
                elif key.fd in self._streams:  # its end may have been read for a tail
                    self._read(key.fd)
        self._answer()

    def _take_new(self) -> None:
        with self._lock:
            new, self._new = self._new, []
        for fd, slot in new:
            if slot not in self._logs:
                self._logs[slot] = Log(log_path(self._folder, slot))
            self._streams[fd] = (slot, LineCutter())
            self._selector.register(fd, selectors.EVENT_READ)

    def _answer(self) -> None:
        """Answer requests for tails, after reading the rest of their slots' pipes."""
        with self._lock:
            asked, self._asked = self._asked, []
        for slot, tail in asked:
            for fd in [fd for fd, (owner, _) in self._streams.items() if owner == slot]:
                reads = TAIL_READS
                while reads and fd in self._streams and wait([fd], 0):
                    self._read(fd)
                    reads -= 1
            rest = [cutter.unfinished for owner, cutter in self._streams.values() if owner == slot]
            with self._lock:
                lines = [*self._tails[slot], *(line for part in rest for line in part)]
            tail.set_result(lines[-TAIL_LINES:])

    def _read(self, fd: int) -> None:
        slot, cutter = self._streams[fd]
        data = os.read(fd, CHUNK_BYTES)
        if data:
            self._logs[slot].write(data)
            with self._lock:
                self._active.add(slot)
            lines = cutter.feed(data)
        else:
            lines = cutter.end()
            self._selector.unregister(fd)
            os.close(fd)
            del self._streams[fd]
        with self._lock:
            self._tails[slot].extend(line[:TAIL_LINE_CHARS] for line in lines)
        for line in lines:
            self._show(slot, line)


def worker_folder(folder: Path, slot: Slot) -> Path:
    """Return a slot's folder within the sweep's."""
    return folder / f"worker-{slot}"


def log_path(folder: Path, slot: Slot) -> Path:
    """Return the path of a slot's log."""
    return worker_folder(folder, slot) / "output.log"
