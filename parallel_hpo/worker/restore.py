"""The standard streams of a worker, made anew on their descriptors.

What a run may change of its worker's process is put back: the next run finds it like the first.

Signal handlers, blocked signals and timers, the working directory, the arguments, the
standard streams, the hook for exceptions, the environment, the temporary folder, limits
of resources. Called in the main thread.

After each run it is also seen whether the process can still do what every client of W&B's does, whatever
that run patched; in 0.1 ms. An agent would fail of it by itself. A run that is run again has no agent, and
would fail of what another run has done.
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


def renew(stream: TextIO | None, fd: int) -> TextIO:
    """Return a text stream onto one of the standard descriptors, which it never closes.

    It is the same object where that can be: wandb has wrapped its `write` on import, to send the
    console's lines to the server. It begins anew all the same, for it may be closed, or know of a
    file that was seekable.
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
"""The interpreter's own: wandb wraps both once more for each run, and a thousand would nest too deep."""

_SIGNALS: Final = tuple(signal.Signals)
_LIMITS: Final = tuple(sorted({getattr(resource, name) for name in dir(resource) if name[:7] == "RLIMIT_"}))
_CLIENTS_OWN: Final = frozenset({"WANDB_SERVICE"})
"""Where the client's wandb-core listens: it sets that and takes it away itself, with the process."""


@contextmanager
def restored() -> Iterator[list[str]]:
    """Put back at the end what the block has changed of the process; the list then says what can't be."""
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
    """Put handlers back, and stop an alarm before it meets the old one; None: Python knows nothing of it."""
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
    """Put limits back, and yield those that can't be: a hard limit may only be lowered, but by root."""
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
    """Go back to where the run began; where that is gone, to a folder that is there, as wandb needs one."""
    for refuge in (folder, os.environ.get("WANDB_DIR"), "/"):
        if refuge is not None:
            with suppress(OSError):
                os.chdir(refuge)
                return


def _reopen(stream: TextIO, descriptor: int) -> TextIO:
    """Return the stream, open again where `main` has closed it."""
    return renew(stream, descriptor) if stream.closed else stream


def _start_thread() -> None:
    thread = threading.Thread(target=int, daemon=True)
    thread.start()
    thread.join()


PROBES: Final[Mapping[str, Callable[[], object]]] = {
    "json": lambda: json.loads(json.dumps({"key": [1.0]})),
    "threading": _start_thread,
    "socket": lambda: socket.socket().close(),
}


def why_unwell(probes: Mapping[str, Callable[[], object]] = PROBES) -> str:
    """Return what fails here now, and how; '' where nothing does."""
    for what, probe in probes.items():
        try:
            probe()
        except BaseException as error:  # noqa: BLE001 - what `main` has put there raises what it likes
            return f"its last run left {what} broken: {error_in_words(error)}"
    return ""
