"""The key of a server that runs by itself: kept in a file of mode 0600, so that it survives restarts.

It is beside the database; where the files are in a folder of their own, it is in there, so that servers
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


def find(files: Path, folder: Path) -> str:
    """Return the key of the server whose files are in `files`, and whose folder by default is `folder`.

    BackendError where it can't be kept, or the file holds none.
    """
    is_apart = files.parent != folder
    path = (files if is_apart else folder) / NAME
    try:
        # Who had a key before the files moved keeps it.
        before = folder / NAME if is_apart and (folder / NAME).exists() else None
        return _kept(path, new_master_key() if before is None else _read(before))
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
