"""A real PostgreSQL for the tests, where one is installed: its own folder, reached by a socket in there."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, text

_OWNER: Final = "postgres"


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest one; None where it or our driver is missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    where = found[-1].parent if found else Path(on_path).resolve().parent if on_path else None
    return where if find_spec("psycopg") is not None else None


@contextmanager
def running(bin_folder: Path) -> Iterator[str]:
    """Run a server, and yield the URL of its first database."""
    # Its socket's path must be short, and the folder its owner's: it refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    owner = _OWNER if os.geteuid() == 0 else None
    if owner is not None:
        shutil.chown(folder, owner)
    data = folder / "data"
    options = ["-D", str(data), "-A", "trust", "-U", getpass.getuser(), "--no-sync", "-E", "UTF8"]
    subprocess.run([bin_folder / "initdb", *options], user=owner, check=True, capture_output=True, cwd=folder)
    settings = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=100"
    control: list[str | Path] = [bin_folder / "pg_ctl", "-D", str(data), "-w", "-t", "60"]
    # As a daemon: its processes come and go, and are none that a test leaves behind.
    start: list[str | Path] = [*control, "-l", str(folder / "log"), "-o", settings, "start"]
    subprocess.run(start, user=owner, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        yield f"postgresql+psycopg://{getpass.getuser()}@/postgres?host={folder}"
    finally:
        stop: list[str | Path] = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, user=owner, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        shutil.rmtree(folder)


def fresh_database(url: str, name: str) -> str:
    """Make an empty database, and return its URL."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return url.replace("/postgres?", f"/{name}?")
