"""What a run may change of its worker's process is put back: the next run finds it like the first.

Signal handlers, blocked signals and timers, the working directory, the arguments, the standard
streams, the hook for exceptions. Called in the main thread.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from parallel_hpo.worker.birth import open_stream

_EXIT: Final = sys.exit
_EXCEPTHOOK: Final = sys.excepthook
"""The interpreter's own: wandb wraps both once more for each run, and a thousand would nest too deep."""

_SIGNALS: Final = tuple(signal.Signals)


@contextmanager
def restored() -> Iterator[None]:
    """Put back at the end what the block has changed of the process."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    streams = sys.stdout, sys.stderr
    folder, argv = _folder(), list(sys.argv)
    sys.exit, sys.excepthook = _EXIT, _EXCEPTHOOK
    try:
        yield
    finally:
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


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _return_to(folder: Path | None) -> None:
    """Go back to where the run began; where that is gone, to a folder that is there, as wandb needs one."""
    if folder is None or not folder.is_dir():
        folder = Path(os.environ.get("WANDB_DIR", "/"))
    os.chdir(folder)


def _reopen(stream: TextIO, descriptor: int) -> TextIO:
    """Return the stream, or a new one where `main` has closed it."""
    return open_stream(descriptor) if stream.closed else stream
