"""The orderly end of a child: what the interpreter does at its end, without waiting for threads.

Functions of `atexit` are called, what libraries keep is ended, files that are still open are flushed.
The interpreter's own way out is not taken: it waits for threads that user code left, and takes down
the daemons among them (wandb's, CUDA's) in the midst of what they do.
"""

from __future__ import annotations

import atexit
import gc
import io
import logging
import os
import sys
import tempfile
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from parallel_hpo.worker import leftovers


def forget_the_parents_ends() -> None:
    """Drop what the process that this one is a fork of had registered for its own end.

    Its temporary folders are its own to remove, also where nothing holds them here any more. What the
    standard library has registered for itself is there again, as multiprocessing does it in its forks.
    """
    atexit._clear()
    finalizers: Any = weakref.finalize
    for finalizer in list(finalizers._registry):
        finalizer.atexit = False
        held = finalizer.peek()
        if held is not None and isinstance(held[0], tempfile.TemporaryDirectory):
            finalizer.detach()
    finalizers._registered_with_atexit = False  # the next one that is made registers them anew
    atexit.register(logging.shutdown)
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        atexit.register(util._exit_function)


def leave(code: int) -> NoReturn:
    """End this process; what its functions of `atexit` raise, the interpreter prints."""
    _try(atexit._run_exitfuncs)
    _try(leftovers.end_what_libraries_keep)
    _try(flush_files)
    flush()
    os._exit(code)


def _try(act: Callable[[], object]) -> None:
    try:
        act()
    except Exception:  # noqa: BLE001 - nothing may keep the process from its end
        with suppress(Exception):  # nobody may read what it says any more
            traceback.print_exc()


def flush_files() -> None:
    """Write out what files hold that are still open, from those that wrap others inwards.

    Those made in Python (gzip's, say) are closed, as their ends are written then; the interpreter
    does that with all. Of strange objects only the class is looked at: isinstance asks them too, and some
    (torch's deprecated names) warn or raise then.
    """
    files = [held for held in gc.get_objects() if issubclass(type(held), io.IOBase)]
    texts = [file for file in files if isinstance(file, io.TextIOWrapper)]
    buffers = [file for file in files if isinstance(file, io.BufferedWriter | io.BufferedRandom)]
    wrappers = [file for file in files if type(file).__module__ != "_io"]
    for act in (*(text.flush for text in texts), *(file.close for file in wrappers)):
        with suppress(Exception):  # closed, or of user code
            act()
    for buffer in buffers:
        with suppress(Exception):
            buffer.flush()


def flush() -> None:
    """Write out what the standard streams still hold; streams that user code closed are fine."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # closed by user code
