"""A server's data for commands; the server may run or not, as several processes may share a database."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.files import folder as files_folder
from parallel_hpo.server.store.database import Database, UnavailableError

DATABASE: Final = "server.db"


@contextmanager
def opened(directory: Path) -> Iterator[AppContext | None]:
    """Open the data of a directory's embedded server; None if there is none."""
    if not (directory / DATABASE).exists():
        yield None
        return
    with opened_at(str(directory / DATABASE)) as app:
        yield app


@contextmanager
def opened_at(where: str, files: str | None = None) -> Iterator[AppContext]:
    """Open the data of the server with the database at a path or URL; `files` is the folder of its files.

    UsageError for a missing database, BackendError if it can't be used or its files aren't here.
    """
    if "://" not in where and not Path(where).exists():
        raise UsageError(f"there is no database {where}")
    database = Database.open(where)
    try:
        yield AppContext(
            database=database,
            files=files_folder.find_folder(database, files_folder.folder_request(where, files)),
            master_key="",  # signs nothing here
            clock=time.time,
            new_id=lambda: secrets.token_hex(4),
            new_seed=lambda: secrets.randbits(32),
            sweeps_in=files_folder.folder_of(where),
        )
    except UnavailableError as error:
        raise BackendError(f"the server's database can't be used now: {error}; try again later") from None
    finally:
        database.close()
