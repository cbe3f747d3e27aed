"""The embedded server's data in a directory, for commands that look after it while no server may run.

Any number of processes may work on the database, a server among them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from parallel_hpo.server import files_folder
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.world import World

DATABASE: Final = "server.db"


@contextmanager
def opened(directory: Path) -> Iterator[World | None]:
    """Open what an embedded server keeps in a directory; None: there never was one."""
    path = directory / DATABASE
    if not path.exists():
        yield None
        return
    database = Database.open(str(path))
    try:
        yield World(
            database=database,
            files=files_folder.located(database, directory / files_folder.FILES, str(path.absolute())),
            master_key="",  # signs nothing here
            clock=time.time,
            new_id=lambda: secrets.token_hex(4),
            new_seed=lambda: secrets.randbits(32),
        )
    finally:
        database.close()
