"""The key of a server that runs by itself: kept in a file of mode 0600, so that it survives restarts.

It is beside a SQLite database that has its files beside it; else it is where the files are, so that servers
on several machines have one key, and take each other's addresses of files.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from parallel_hpo.errors import BackendError
from parallel_hpo.keys import new_master_key

KEY_LENGTH: Final = 40  # wandb's client refuses shorter ones
NAME: Final = "server.key"


def find(folder: Path, before: Path) -> str:
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
