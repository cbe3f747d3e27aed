"""Whose a server is: an embedded one hears its key and its end from its owner, one by itself keeps its key.

An owner is told of the database's trouble. A key that is kept is in a file of mode 0600, so that it
survives restarts: beside a SQLite database that has its files beside it; else where the files are, so
that servers on several machines have one key, and take each other's addresses of files.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from parallel_hpo.errors import BackendError, UsageError
from parallel_hpo.keys import new_master_key
from parallel_hpo.server.store.failures import TellTrouble

KEY_LENGTH: Final = 40  # wandb's client refuses shorter ones
NAME: Final = "server.key"


def kept_key(folder: Path, before: Path) -> str:
    """Return the key that is kept in a folder; a server that had one in the folder `before` has it still.

    BackendError where it can't be kept, or the file holds none.
    """
    path = folder / NAME
    try:
        return _kept(path, _read(before / NAME) if (before / NAME).exists() else new_master_key())
    except OSError as error:
        raise BackendError(
            f"the sweep server can't keep its key in {path}: {error.strerror}; name another --database"
        ) from error


def _kept(path: Path, new: str) -> str:
    """Return the key in the file, which is the new one where there was none.

    It appears there whole or not at all: another server may start at the same moment.
    """
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".server.key-") as file:  # mode 0600
            file.write(new + "\n")
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    return _read(path)


def _read(path: Path) -> str:
    key = path.read_text(encoding="ascii", errors="replace").strip()
    if len(key) < KEY_LENGTH:
        raise BackendError(f"{path} holds no key; delete it, and the server makes a new one")
    return key


def key_from(stdin: IO[bytes]) -> str:
    """Read the key that the owner writes as the first line of stdin."""
    try:
        key = json.loads(stdin.readline())["api_key"]
    except (ValueError, KeyError, TypeError):
        key = None
    if not isinstance(key, str) or len(key) < KEY_LENGTH:
        raise UsageError('an embedded server needs one line {"api_key": "<40 digits or more>"} on stdin')
    return key


def teller(stdout: IO[str]) -> TellTrouble:
    """Return what tells the owner of the database's trouble, and of its end."""

    def tell(why: str, for_good: bool) -> None:
        with suppress(OSError):  # the owner is gone, and so are we soon
            print(json.dumps({"trouble": why, "for_good": for_good}), file=stdout, flush=True)

    return tell


def exit_at_end_of(stdin: IO[bytes]) -> None:
    """Wait for the owner's end of the pipe to close, then end the process.

    Nobody is left to be served, and the database bears it: a graceful end would only take longer.
    """
    while stdin.read(4096):
        pass
    os._exit(0)
