"""The folder in which one upload of a sweep works, and no other one meanwhile; it is gone at its end."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from parallel_hpo.errors import UsageError

_NAME: Final = "upload"


@contextmanager
def working_place(directory: Path, sweep_id: str) -> Iterator[Path]:
    """Have the folder; what an upload that was killed left in it goes first.

    UsageError where an upload of the sweep is on, or nothing can be written there.
    """
    folder = directory / sweep_id / _NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"{folder} can't be used: {error.strerror}; name another --directory") from None
    try:
        _lock(handle, sweep_id)
        _empty(folder)
        try:
            yield folder
        finally:
            _leave(folder)
    finally:
        os.close(handle)


def _lock(handle: int, sweep_id: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(f"another upload of {sweep_id} is on: wait for its end") from None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _leave(folder: Path) -> None:
    _empty(folder)
    folder.rmdir()
    with suppress(OSError):  # the sweep's own folder, where there was none
        folder.parent.rmdir()
