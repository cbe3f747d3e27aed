"""All errors of this package with their exit codes, and one-line texts of user code's errors.

A message says what was wrong, where (key path, file, slot, run) and what to do next. Only `cli` turns an
error into an exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """Exit codes of a sweep's process; 128 + n means "ended by signal n"."""

    COMPLETE = 0
    OUR_FAULT = 1
    USAGE = 2
    FAILURE_POLICY = 4
    NO_RUN_FINISHED = 5
    RESUMABLE = 75
    SWEEP_TIMEOUT = 124
    SIGNAL_BASE = 128


class ParallelHPOError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the command's exit code."""

    exit_code: ClassVar[ExitCode] = ExitCode.OUR_FAULT

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows instead of a traceback: the message says what to do, our frames don't."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(ParallelHPOError):
    """The configuration is wrong; names the file, the key's path, the value, and what is allowed."""

    exit_code = ExitCode.USAGE


class TargetError(ParallelHPOError):
    """The target can't be imported, pickled, or called without arguments."""

    exit_code = ExitCode.USAGE


class UsageError(ParallelHPOError):
    """The call itself is not allowed here, such as a second `optimize()` while one runs."""

    exit_code = ExitCode.USAGE


class MissingExtraError(UsageError, ImportError):
    """A library of an extra is missing; names the command that installs it."""


class BackendError(ParallelHPOError):
    """A sweep server can't be reached, or refuses a request; names its address and its answer."""


class ServerAwayError(BackendError):
    """A sweep server did not answer, or can't now; the request may be retried."""


class ServerRefusedError(BackendError):
    """A sweep server refused the request, and a retry would not help; has its status and answer."""

    def __init__(self, message: str, *, status: int, answer: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer


class PoolOverError(BackendError):
    """A machine can't join a sweep that has ended; `ends_with` is the sweep's exit code."""

    def __init__(self, message: str, *, ends_with: int) -> None:
        super().__init__(message)
        self.ends_with = ends_with


class WorkerStartError(ParallelHPOError):
    """The fork server or a worker can't be started; carries the child's error."""


class LedgerError(ParallelHPOError):
    """The ledger can't be opened: another session owns it, or the file is not a ledger."""


class NoRoomError(LedgerError):
    """The ledger can't be written for now: the disk is full, or another process holds it."""


def error_in_words(error: BaseException) -> str:
    """Return an exception as one line, even if its text can't be printed."""
    text = in_one_line(error)
    name = type(error).__name__
    return f"{name}: {text}"[:500] if text else name


def in_one_line(value: object) -> str:
    """Return a value's text with line ends replaced by spaces; never raises."""
    try:
        return " ".join(str(value).split())
    except Exception:  # noqa: BLE001 - user code's __str__ may raise anything
        return "(its text can't be printed)"
