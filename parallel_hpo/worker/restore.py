"""Restores what a run may change of its worker's process, so that the next run finds it fresh.

Signal handlers, blocked signals and timers, the working directory, the arguments, the standard streams, the
hook for exceptions, the environment, the temporary folder, and resource limits. Called in the main thread.

`health_problem` checks after each run, in 0.1 ms, that the process can still do what every W&B client needs,
whatever the run patched. An agent would notice by itself; a run without an agent (a further attempt) would
fail of it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TextIO

from parallel_hpo.core.errors import error_in_words


def reopen_stream(stream: TextIO | None, fd: int) -> TextIO:
    """Return a text stream on a standard descriptor, which it never closes.

    It is the same object if possible, as wandb has wrapped its `write` on import to send the console's lines
    to the server. It is initialised again, as it may be closed, or have been opened on a seekable file.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    buffer = open(fd, "wb", closefd=False)  # noqa: SIM115 - the stream is its owner
    io.TextIOWrapper.__init__(
        stream, buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    return stream


_EXIT: Final = sys.exit
_EXCEPTHOOK: Final = sys.excepthook
"""The interpreter's functions: wandb wraps both again for each run, and a thousand would nest too deep."""

_SIGNALS: Final = tuple(signal.Signals)
_LIMITS: Final = tuple(sorted({getattr(resource, name) for name in dir(resource) if name[:7] == "RLIMIT_"}))
_CLIENTS_OWN: Final = frozenset({"WANDB_SERVICE"})
"""Variables that the client sets and removes itself: the address of its wandb-core."""


@contextmanager
def restored() -> Iterator[list[str]]:
    """Restore the process after the block; the yielded list then has what can't be restored."""
    changed: list[str] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    streams = sys.stdout, sys.stderr
    folder, argv = _folder(), list(sys.argv)
    environment = dict(os.environ)
    temporary = tempfile.tempdir
    limits = [resource.getrlimit(limit) for limit in _LIMITS]
    user = os.geteuid(), os.getegid()
    sys.exit, sys.excepthook = _EXIT, _EXCEPTHOOK
    try:
        yield changed
    finally:
        changed += _restore_limits(limits)
        if (os.geteuid(), os.getegid()) != user:
            changed.append("the process's user")
        _restore_environment(environment)
        tempfile.tempdir = temporary
        _restore_handlers(handlers)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        sys.stdout, sys.stderr = map(_reopen, streams, (1, 2))
        sys.argv = argv
        _return_to(folder)


def _restore_handlers(handlers: Mapping[signal.Signals, Any]) -> None:
    """Restore handlers, after stopping an alarm that the old one would get; None: not set by Python."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _restore_environment(before: Mapping[str, str]) -> None:
    now = dict(os.environ)
    if now == before:
        return
    for name in (now.keys() | before.keys()) - _CLIENTS_OWN:
        if name not in before:
            del os.environ[name]
        elif now.get(name) != before[name]:
            os.environ[name] = before[name]


def _restore_limits(before: list[tuple[int, int]]) -> Iterator[str]:
    """Restore limits, and yield those that can't be: only root may raise a hard limit."""
    for limit, values in zip(_LIMITS, before, strict=True):
        try:
            if resource.getrlimit(limit) != values:
                resource.setrlimit(limit, values)
        except (OSError, ValueError):
            yield "a hard limit of resources"


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _return_to(folder: Path | None) -> None:
    """Return to the run's first folder, or to another one that exists, as wandb needs one."""
    for refuge in (folder, os.environ.get("WANDB_DIR"), "/"):
        if refuge is not None:
            with suppress(OSError):
                os.chdir(refuge)
                return


def _reopen(stream: TextIO, descriptor: int) -> TextIO:
    """Return the stream, reopened if `main` has closed it."""
    return reopen_stream(stream, descriptor) if stream.closed else stream


def _start_thread() -> None:
    thread = threading.Thread(target=int, daemon=True)
    thread.start()
    thread.join()


PROBES: Final[Mapping[str, Callable[[], object]]] = {
    "json": lambda: json.loads(json.dumps({"key": [1.0]})),
    "threading": _start_thread,
    "socket": lambda: socket.socket().close(),
}


def health_problem(probes: Mapping[str, Callable[[], object]] = PROBES) -> str | None:
    """Return what the last run has broken in this process, or None."""
    for what, probe in probes.items():
        try:
            probe()
        except BaseException as error:  # noqa: BLE001 - code patched by `main` may raise anything
            return f"its last run left {what} broken: {error_in_words(error)}"
    return None
