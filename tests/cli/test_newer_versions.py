"""Data of a newer version is refused by every command, and not changed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.core.version import __version__
from parallel_hpo.records.reader import LEDGER_FORMAT
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.tables import HEAD
from tests.cli.conftest import Command
from tests.records.test_directory import made

CONFIG: Final = {
    "hpo": {"count": 1, "sweep_configuration": {"method": "random", "parameters": {"x": {"values": [1]}}}}
}
RUN: Final = ("run", "config.json", "train.py:main", "--backend", "local")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a script and a performed sweep."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "train.py").write_text("def main():\n    pass\n")
    made(tmp_path)
    return tmp_path


def make_newer(path: Path, statement: str) -> bytes:
    """Change a database as by a future version; return the file's content."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
    return path.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        *("runs sweep1", "open", "report sweep1", "rerun sweep1 run1", "clean sweep1 --yes"),
        *("drain sweep1 --worker 0", f"{' '.join(RUN)} --resume sweep1"),
    ],
)
def test_a_newer_ledger_is_refused(words: str, place: Path, command: Command) -> None:
    ledger = place / "sweep1" / "ledger.db"
    before = make_newer(ledger, f"PRAGMA user_version = {LEDGER_FORMAT + 1}")
    done = command(*words.split(), "--directory", ".")
    assert_refused(done, f"ledger.db was written by a newer parallel_hpo: its format is {LEDGER_FORMAT + 1}")
    assert f"knows those up to {LEDGER_FORMAT}; upgrade parallel_hpo" in done.stderr
    assert ledger.read_bytes() == before


def test_a_newer_ledger_does_not_hide_other_sweeps(place: Path, command: Command) -> None:
    (place / "sweep1").rename(place / "sweep2")
    make_newer(place / "sweep2" / "ledger.db", f"PRAGMA user_version = {LEDGER_FORMAT + 1}")
    made(place)
    done = command("status", "--json", "--directory", ".")
    assert [sweep["sweep"] for sweep in json.loads(done.stdout)] == ["sweep1"]
    assert "sweep2/ledger.db was written by a newer parallel_hpo" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        *(("server", "--database", "server.db"), ("clean", "--database", "server.db")),
        (*RUN, "--directory", "."),
    ],
)
def test_a_newer_database_is_refused(words: tuple[str, ...], place: Path, command: Command) -> None:
    database = place / "server.db"
    Database.open(str(database)).close()
    newer = f"{int(HEAD) + 1:04}"
    before = make_newer(database, f"UPDATE alembic_version SET version_num = '{newer}'")
    done = command(*words)
    assert_refused(done, f"server.db was written by a newer parallel_hpo: its revision is {newer}, and")
    assert f"this version, {__version__}, knows those up to {HEAD}; upgrade parallel_hpo" in done.stderr
    assert database.read_bytes() == before


def assert_refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
