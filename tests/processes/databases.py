"""The databases of sweeps' embedded servers, as tests make them and look into them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.server.kept import empty_sqlite

BUSY_S: Final = 60.0


@dataclass(frozen=True)
class ServerRun:
    """A run as the sweep's server has it; `exit_code` is None where the run never told one."""

    state: str
    exit_code: int | None


def runs_in(path: Path) -> dict[str, ServerRun]:
    """Return each run of a database, by its id."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S)) as database:
            rows = database.execute("SELECT name, state, exitcode FROM runs").fetchall()
    except sqlite3.OperationalError:
        return {}  # the server has not made its tables yet
    return {name: ServerRun(state, code) for name, state, code in rows}


def make_directory(path: Path) -> None:
    """Make a directory of sweeps with the server's database, in which there is nothing but tables."""
    path.mkdir()
    (path / "server.db").touch(mode=0o600)  # as the server makes it
    (path / "server.db").write_bytes(empty_sqlite())
