"""How another terminal, or a page, speaks to a running supervisor: the pipe that `letters` writes to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from parallel_hpo.core import control_pipe
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import Slot
from parallel_hpo.count.policy import MOST_WORKERS
from parallel_hpo.session.decide.events import DrainAsked, ScaleAsked

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
