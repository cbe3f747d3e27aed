"""Stops and commands for a running sweep: from signals, from user code, and from other terminals by a named
pipe.

Signal handlers only note; the loop decides. They are set in the main thread only (Python allows no other),
and restored at the end. A SIGHUP that was ignored at the start stays ignored (nohup). An ignored SIGINT does
not: shells start background jobs that way, and these must still stop.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

from parallel_hpo.core import folders
from parallel_hpo.core.errors import ExitCode, UsageError
from parallel_hpo.core.types import Slot, StopKind
from parallel_hpo.count.policy import MAX_WORKERS
from parallel_hpo.session.decide.events import DrainAsked, ScaleAsked, StopAsked

LONGEST_S: Final = 86400.0
"""Maximum of one wait, in seconds: poll(2) takes at most 24 days. Callers wait again."""


def wait(sources: Sequence[Any], seconds: float | None) -> list[Any]:
    """Return the sources that can be read, or none after `seconds` (or a day); None: no timeout."""
    return connection.wait(sources, None if seconds is None else min(seconds, LONGEST_S))


MEANINGS: Final = {
    signal.SIGINT: StopKind.INTERRUPT,
    signal.SIGTERM: StopKind.INTERRUPT,
    signal.SIGHUP: StopKind.INTERRUPT,
    signal.SIGUSR1: StopKind.DRAIN,
    signal.SIGUSR2: StopKind.PREEMPT,
}


class Control:
    """A queue of stops, from signals and from user code in any thread, with a pipe that wakes the loop.

    The pipe wakes the loop for other reasons too, such as the host program's own signals: only `put` asks
    for a stop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds."""
        self.clock = clock
        self._asked: deque[tuple[float, StopAsked]] = deque()
        self._hard: list[float] = []
        self._stops = 0
        self._closed = False
        self._bell, self._bell_end = os.pipe()
        for end in (self._bell, self._bell_end):
            os.set_blocking(end, False)

    @property
    def bell(self) -> int:
        """Return the descriptor that is readable when the loop should wake."""
        return self._bell

    def stop(self, kind: StopKind) -> None:
        """Ask the sweep to stop; from any thread."""
        code = ExitCode.RESUMABLE
        self.put(StopAsked(kind, f"{kind.value} asked by the program", code))

    def note_signal(self, number: int) -> None:
        """Note a signal; called in its handler, so it must be quick and take no lock."""
        kind = MEANINGS[signal.Signals(number)]
        interrupts = kind is StopKind.INTERRUPT
        code = ExitCode.SIGNAL_BASE + number if interrupts else ExitCode.RESUMABLE
        self.put(StopAsked(kind, signal.Signals(number).name, code))

    def take(self) -> list[StopAsked]:
        """Return the stops since the last call, and drain the pipe."""
        self._still()
        taken = []
        while self._asked:
            taken.append(self._asked.popleft()[1])
        return taken

    @property
    def first_at(self) -> float | None:
        """Return the time of the first stop that lets no run finish, if any."""
        return self._hard[0] if self._hard else None

    @property
    def second_at(self) -> float | None:
        """Return the time of the second such stop, if any."""
        return self._hard[1] if len(self._hard) > 1 else None

    @property
    def stops(self) -> int:
        """Return the number of stops asked so far, taken or not."""
        return self._stops

    @property
    def waiting(self) -> list[float]:
        """Return the times of the stops not taken yet."""
        return [at for at, _ in list(self._asked)]

    @property
    def bell_end(self) -> int:
        """Return the descriptor that wakes the loop when a byte is written to it."""
        return self._bell_end

    def put(self, asked: StopAsked) -> None:
        """Ask for a stop; callable in any thread and in signal handlers."""
        now = self.clock()
        if asked.kind is not StopKind.DRAIN:
            self._hard.append(now)
        self._stops += 1
        self._asked.append((now, asked))
        self.ring()

    def wait(self, seconds: float | None) -> None:
        """Wait for a wake-up, at most so many seconds; take no stop."""
        if wait([self._bell], seconds):  # not select(2), which takes no descriptor above 1023
            self._still()

    def ring(self) -> None:
        """Wake the loop; do nothing after `close`."""
        if self._closed:
            return  # the descriptor's number may belong to another file by now
        try:
            os.write(self._bell_end, b"!")
        except BlockingIOError:
            return  # the pipe is full, so the loop will wake

    def close(self) -> None:
        self._closed = True
        os.close(self._bell)
        os.close(self._bell_end)

    def _still(self) -> None:
        try:
            while os.read(self._bell, 4096):
                pass
        except BlockingIOError:
            pass


class SignalsTaken:
    """Within the block, the sweep's signals go to `control`; after it, the caller's handlers are back."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_fd: int | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        # A second signal soon after a first may be noted in another thread, while the main thread,
        # which runs the handlers, returns to its wait: the wakeup fd ends that wait.
        self._wakeup_fd = signal.set_wakeup_fd(self._control.bell_end, warn_on_full_buffer=False)
        for number in MEANINGS:
            before = signal.getsignal(number)
            if number is signal.SIGHUP and before is signal.SIG_IGN:
                continue
            self._before[number] = before
            signal.signal(number, self._on_signal)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._wakeup_fd is not None:
            signal.set_wakeup_fd(self._wakeup_fd)
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._control.note_signal(number)


PipeCommand = DrainAsked | ScaleAsked


class CommandPipe:
    """The session's end of the pipe; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / folders.PIPE
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.mkfifo(self._path, 0o600)
        # Open for writing too, so that there is no end of file between two commands.
        self._pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        os.close(self._pipe)
        with suppress(FileNotFoundError):
            self._path.unlink()

    def fileno(self) -> int:
        """Return the descriptor, readable when there is a command."""
        return self._pipe

    def take(self) -> list[PipeCommand]:
        """Return the commands received; ignore invalid ones."""
        with suppress(BlockingIOError):
            self._rest += os.read(self._pipe, 65536)
        *lines, self._rest = self._rest.split(b"\n")
        return [command for line in lines if (command := _read(line)) is not None]


def post(folder: Path, command: PipeCommand) -> None:
    """Send a command to the session of the sweep in `folder`; raise UsageError if it is not running."""
    if not folders.send(folder, _write(command)):
        raise UsageError(f"{folder.name} is not running, so it takes no command")


def _write(command: PipeCommand) -> Mapping[str, int]:
    match command:
        case DrainAsked(slot):
            return folders.drain(slot)
        case ScaleAsked(workers):
            return folders.scale(workers)


def _read(line: bytes) -> PipeCommand | None:
    try:
        words = json.loads(line)
    except ValueError:
        return None
    match words:
        case {"drain": int(slot)}:
            return DrainAsked(Slot(slot))
        case {"scale": int(workers)} if 0 < workers <= MAX_WORKERS:
            return ScaleAsked(workers)
    return None
