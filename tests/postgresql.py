"""An installed PostgreSQL, run for the tests in a folder of its own and reached by a socket there."""

from __future__ import annotations

import getpass
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, make_url, text

from parallel_hpo.server.store.database import database_url

_OWNER: Final = "postgres"
_SETTINGS: Final[dict[str, Any]] = {
    "listen_addresses": "",
    "max_connections": 100,
    "autovacuum": "off",
    # Its data need not survive a crash of the machine.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # Files in its own folder: shared memory would outlive a kill.
    "dynamic_shared_memory_type": "mmap",
}


class PostgreSQL:
    """A running server, and new databases in it."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._numbers = itertools.count()

    def fresh(self, like: str = "") -> str:
        """Create an empty database, or a copy of the unused one at a URL; return its URL."""
        template = f" TEMPLATE {make_url(like).database}" if like else ""
        name = f"test{next(self._numbers)}"
        url = database_url(self._url.render_as_string(hide_password=False))
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}{template}"))
        engine.dispose()
        return self._url.set(database=name).render_as_string(hide_password=False)


def why_not() -> str | None:
    """Return why no PostgreSQL can be started here, or None if one can."""
    if _programs() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'parallel_hpo[postgres]'"
    if os.geteuid() == 0 and _OWNER not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"PostgreSQL doesn't run as root, and there is no user {_OWNER}"
    return None


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest one, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@contextmanager
def running() -> Iterator[PostgreSQL]:
    """Run a server; `why_not` must be None."""
    programs = _programs()
    assert programs is not None
    # Its socket's path must be short. The server refuses to run as root: another user owns the folder.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    owner = _OWNER if os.geteuid() == 0 else None
    if owner is not None:
        shutil.chown(folder, owner)
    user = getpass.getuser()

    def perform(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, user=owner, check=True, stdout=subprocess.DEVNULL, cwd=folder)

    settings = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
    try:
        perform("initdb", "-A", "trust", "-U", user, "--no-sync", "-E", "UTF8", "--locale=C")
        # As a daemon: its processes do not count as left behind by a test.
        perform("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} {settings}", "start")
        try:
            yield PostgreSQL(f"postgresql://{user}@/postgres?host={folder}")
        finally:
            perform("pg_ctl", "-w", "-m", "fast", "stop")
    finally:
        shutil.rmtree(folder)
