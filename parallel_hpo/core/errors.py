"""Every error that this package raises on purpose, each with its exit code.

A message says what was wrong, where (key path, file, slot, run) and what to do
next. The exit codes are those of the command line's contract; `cli` is the one
place that turns an error into one. Imports nothing of the package.

What user code raised or returned, in one line of text that is safe to print and to send.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """How a sweep's process ends; 128 + n stands for "ended by signal n"."""

    COMPLETE = 0
    OUR_FAULT = 1
    USAGE = 2
    FAILURE_POLICY = 4
    NO_RUN_FINISHED = 5
    RESUMABLE = 75
    SWEEP_TIMEOUT = 124
    SIGNAL_BASE = 128


class ParallelHPOError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what a command ends with."""

    exit_code: ClassVar[ExitCode] = ExitCode.OUR_FAULT

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows instead of a traceback: the message says what to do, our frames don't."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(ParallelHPOError):
    """The configuration is wrong: names the file, the key's path, the value, and what is allowed."""

    exit_code = ExitCode.USAGE


class TargetError(ParallelHPOError):
    """The target can't be imported, pickled, or called without arguments."""

    exit_code = ExitCode.USAGE


class UsageError(ParallelHPOError):
    """The call itself is not allowed here, such as a second `optimize()` while one runs."""

    exit_code = ExitCode.USAGE


class MissingExtraError(UsageError, ImportError):
    """A library is needed that the base install lacks; names the command that installs it."""


class BackendError(ParallelHPOError):
    """A sweep server can't be reached, or refuses us; names its address and its answer."""


class ServerAwayError(BackendError):
    """A sweep server did not answer, or can't now: the same may be asked again."""


class ServerRefusedError(BackendError):
    """A sweep server's answer is no, and would be again; carries its status and its words."""

    def __init__(self, message: str, *, status: int, said: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.said = said


class PoolOverError(BackendError):
    """A machine comes to a sweep that takes none any more; `ends_with` is the sweep's own exit code."""

    def __init__(self, message: str, *, ends_with: int) -> None:
        super().__init__(message)
        self.ends_with = ends_with


class WorkerStartError(ParallelHPOError):
    """The fork server or a worker can't be started; carries the child's own words."""


class LedgerError(ParallelHPOError):
    """The ledger can't be opened: another supervisor owns it, or it is no ledger."""


class NoRoomError(LedgerError):
    """The ledger can't be written now, and may be later: the disk is full, or someone else holds it."""


def error_in_words(error: BaseException) -> str:
    """Return an exception in one line, also one that can't be printed."""
    text = in_one_line(error)
    name = type(error).__name__
    return f"{name}: {text}"[:500] if text else name


def in_one_line(value: object) -> str:
    """Return a value's text with its line ends as spaces, or say that it has none."""
    try:
        return " ".join(str(value).split())
    except Exception:  # noqa: BLE001 - user code's __str__ may raise anything
        return "(its text can't be printed)"
