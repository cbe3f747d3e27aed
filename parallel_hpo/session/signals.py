"""Waiting for what can be read, for any number of seconds: poll(2) takes no more than 24 days of them.

Signals while a sweep runs: handlers only note, the loop decides.

Taken over in the main thread alone (Python allows it nowhere else), and given back
as they were. A SIGHUP that was ignored at the start stays ignored (nohup); an
ignored SIGINT does not: a shell starts background jobs so, and they must still stop.

How another terminal, or a page, speaks to a running supervisor: the pipe that `letters` writes to.
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

from parallel_hpo.core import control_pipe
from parallel_hpo.core.errors import ExitCode, UsageError
from parallel_hpo.core.types import Slot, StopKind
from parallel_hpo.count.policy import MOST_WORKERS
from parallel_hpo.session.decide.events import DrainAsked, ScaleAsked, StopAsked

LONGEST_S: Final = 86400.0
"""Then whoever waits looks around, and waits on: nobody notices that, once a day."""


def wait(sources: Sequence[Any], seconds: float | None) -> list[Any]:
    """Return those that can be read, or none after `seconds`, a day at the most; None: without an end."""
    return connection.wait(sources, None if seconds is None else min(seconds, LONGEST_S))


MEANINGS: Final = {
    signal.SIGINT: StopKind.INTERRUPT,
    signal.SIGTERM: StopKind.INTERRUPT,
    signal.SIGHUP: StopKind.INTERRUPT,
    signal.SIGUSR1: StopKind.DRAIN,
    signal.SIGUSR2: StopKind.PREEMPT,
}


class Control:
    """A queue of asked stops with a bell: from signals, and from user code in any thread.

    The bell rings for other things too (the host program's own signals among them): only what
    was put here asks for a stop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds."""
        self.clock = clock
        self._asked: deque[tuple[float, StopAsked]] = deque()
        self._hard: list[float] = []
        self._has_stopped = False
        self._closed = False
        self._bell, self._bell_end = os.pipe()
        for end in (self._bell, self._bell_end):
            os.set_blocking(end, False)

    @property
    def bell(self) -> int:
        """Readable when a stop has been asked."""
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
        """Return what was asked since the last call, and still the bell."""
        self._still()
        taken = []
        while self._asked:
            taken.append(self._asked.popleft()[1])
        return taken

    @property
    def first_at(self) -> float | None:
        """When the first stop was asked that lets no run finish; None: none has been."""
        return self._hard[0] if self._hard else None

    @property
    def second_at(self) -> float | None:
        """When another such stop was asked; None: none has been."""
        return self._hard[1] if len(self._hard) > 1 else None

    @property
    def has_stopped(self) -> bool:
        """Whether a stop of any kind has been asked, taken or not."""
        return self._has_stopped

    @property
    def waiting(self) -> list[float]:
        """When each of the stops was asked that nobody has taken yet."""
        return [at for at, _ in list(self._asked)]

    @property
    def bell_end(self) -> int:
        """Where the bell is rung by writing a byte."""
        return self._bell_end

    def put(self, asked: StopAsked) -> None:
        """Ask for a stop; from any thread, and from a signal's handler."""
        now = self.clock()
        if asked.kind is not StopKind.DRAIN:
            self._hard.append(now)
        self._has_stopped = True
        self._asked.append((now, asked))
        self.ring()

    def wait(self, seconds: float | None) -> None:
        """Wait so long at the most, or until the bell rings; what was asked stays to be taken."""
        if wait([self._bell], seconds):  # not select(2), which takes no descriptor above 1023
            self._still()

    def wait_for_stop(self, seconds: float) -> bool:
        """Wait so long, or until a stop has been asked, which stays to be taken; return whether one has."""
        if not self._asked:
            self.wait(seconds)
        return bool(self._asked)

    def ring(self) -> None:
        """Wake the loop; once this is closed, a thread that is late wakes nobody."""
        if self._closed:
            return  # the bell's number may be another file's by now
        try:
            os.write(self._bell_end, b"!")
        except BlockingIOError:
            return  # it rings already

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
    """Within the block the sweep's signals go to `control`; after it they are the caller's again."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_fd: int | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        # A second signal that comes close to a first may be noted in another thread, while the main
        # thread, which runs the handlers, goes back to its wait: the wakeup fd ends that wait.
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


Letter = DrainAsked | ScaleAsked


class CommandPipe:
    """The supervisor's end; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / control_pipe.PIPE
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.mkfifo(self._path, 0o600)
        # Open for writing too, so that it is never at its end between two letters.
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
        """Readable when there is a letter."""
        return self._pipe

    def take(self) -> list[Letter]:
        """Return the letters that have come; what is none is passed over."""
        with suppress(BlockingIOError):
            self._rest += os.read(self._pipe, 65536)
        *lines, self._rest = self._rest.split(b"\n")
        return [letter for line in lines if (letter := _read(line)) is not None]


def post(folder: Path, letter: Letter) -> None:
    """Send a letter to the supervisor of the sweep in `folder`; raises UsageError where none runs."""
    if not control_pipe.send(folder, _write(letter)):
        raise UsageError(f"{folder.name} is not running: there is no supervisor to be told")


def _write(letter: Letter) -> Mapping[str, int]:
    match letter:
        case DrainAsked(slot):
            return control_pipe.drain(slot)
        case ScaleAsked(workers):
            return {"scale": workers}


def _read(line: bytes) -> Letter | None:
    try:
        words = json.loads(line)
    except ValueError:
        return None
    match words:
        case {"drain": int(slot)}:
            return DrainAsked(Slot(slot))
        case {"scale": int(workers)} if 0 < workers <= MOST_WORKERS:
            return ScaleAsked(workers)
    return None
