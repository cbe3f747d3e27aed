"""Folders of a sweep's processes in the temporary folder, made so that whoever clears up finds them.

    parallel_hpo-<mark>-xxxxxxxx/     what modules make while they are imported (wandb two, for good)
        4711                          a child that was forked here, as a file; in it what it has started
    wandb-4711-4712-xxxxxxxx/         its wandb-core's socket, which stays where that is killed
    wandb_symon-4712-<pid>-xxxx.sock  that one's helper's

A process removes its own when it ends; of one that was killed its supervisor does, or the next
start of any.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

OWNERS: Final = ("wandb-core", "wandb-symon")
"""wandb's own processes: the client's service, and its helper, which watches the machine."""
MARK: Final = "PARALLEL_HPO_MARK"
"""In the environment of all processes of a sweep: whose they are."""
_FOLDER: Final = re.compile(r"parallel_hpo-(\w+)-[^-]+")
_OWNED: Final = re.compile(r"wandb(?:_symon)?-(\d+)-(\d+)-\d+(?:\.sock)?")
"""Parent and process."""
_HERE: Final[list[Path]] = []
"""The folder of this process, or of the fork server that it is a fork of."""
_NOTED: Final[deque[int]] = deque(maxlen=4)
"""What this process has noted."""


def make_folder() -> Path:
    """Make a folder for what this process, or a fork of it, leaves."""
    folder = Path(tempfile.mkdtemp(prefix=f"parallel_hpo-{os.environ.get(MARK, 'none')}-"))
    _HERE.append(folder)
    return folder


@contextmanager
def importing() -> Iterator[None]:
    """Have what a fresh interpreter's imports make in a folder that is found again; a fork's are done."""
    if "wandb" in sys.modules:
        yield
        return
    folder = make_folder()
    note_child(folder, os.getpid())
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = None


def note(pid: int) -> None:
    """Note the same of a process that this worker has started: a program, or its wandb-core.

    Of the last ones only: what a run leaves is seen to at its end, unless its worker is killed.
    """
    if _HERE and pid not in _NOTED:
        _NOTED.append(pid)
        with suppress(OSError):
            (_HERE[-1] / str(os.getpid())).write_text("\n".join(map(str, _NOTED)))


def note_child(folder: Path, pid: int) -> None:
    """Note that what this process leaves is to go with the folder."""
    with suppress(OSError):
        (folder / str(pid)).touch()


def clear_sockets(pid: int) -> None:
    """Remove the sockets of one of wandb's own processes that was killed, and of its helper."""
    with suppress(OSError):
        for entry in list(Path(tempfile.gettempdir()).iterdir()):
            owned = _OWNED.fullmatch(entry.name)
            if owned is not None and str(pid) in owned.groups():
                _remove(entry)


def clear(folder: Path) -> None:
    """Remove a folder, and the sockets of the dead processes that it names."""
    with suppress(OSError):
        children = [entry for entry in folder.iterdir() if entry.name.isdigit()]
        known = {word for entry in children for word in (entry.name, *entry.read_text().split())}
        for entry in sorted(folder.parent.iterdir()):  # a core's before its helper's: "-" before "_"
            owned = _OWNED.fullmatch(entry.name)
            if owned is not None and owned[1] in known and not _lives(int(owned[2])):
                known.add(owned[2])
                _remove(entry)
    _remove(folder)


def clear_all(is_over: Callable[[str], bool], temporary: str) -> None:
    """Remove the folders whose marks are over, with what they name, from a temporary folder."""
    with suppress(OSError):
        for entry in list(Path(temporary).iterdir()):
            marked = _FOLDER.fullmatch(entry.name)
            if marked is not None and is_over(marked[1]):
                clear(entry)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
