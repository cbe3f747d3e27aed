"""Invalid calls and configurations, and data of a newer version: an error, and nothing started or changed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core.version import __version__
from parallel_hpo.records.reader import LEDGER_FORMAT
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.tables import HEAD
from tests.cli.conftest import Command
from tests.records.test_directory import made

SWEEP = {"method": "random", "parameters": {"lr": {"min": 0.1, "max": 1.0}}}
RUN = ("run", "config.json", "train:main")


def written(folder: Path, content: Any) -> None:
    (folder / "config.json").write_text(json.dumps(content))


def section(**keys: Any) -> dict[str, Any]:
    return {"hpo": {"sweep_configuration": SWEEP, **keys}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (section(kind="none"), 'config.json: hpo.kind is "none"; known: wandb_sweeps'),
        ({**SWEEP, "method": "brute"}, 'config.json: sweep.method is "brute"; allowed: '),
        (section(apply=False), "config.json: hpo.apply is false"),
    ],
)
def test_an_invalid_configuration_is_a_one_line_error(
    content: Any, words: str, tmp_path: Path, command: Command
) -> None:
    written(tmp_path, content)
    done = command(*RUN)
    assert done.stderr.startswith(f"error: {words}")
    assert len(done.stderr.splitlines()) == 1
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "home" / ".local").exists()


@pytest.mark.parametrize(
    ("words", "variables", "error"),
    [
        (("run", "none.json", "train:main"), {}, "none.json: can't be read: No such file or directory"),
        ((*RUN, "--count", "many"), {}, 'flag --count: hpo.count is "many"; allowed: '),
        (RUN, {"PARALLEL_HPO_RETRIES": "-1"}, "environment variable PARALLEL_HPO_RETRIES: hpo.retries is -1"),
        (("run", "config.json", "--", "--epochs", "3"), {}, "TARGET is missing: "),
        (RUN, {"PARALLEL_HPO_WORKER": "0"}, "this is a worker of a sweep"),
        *(
            (("run", "config.json", target), {}, f"TARGET {target!r}")
            for target in ("train", "train.py", "train:", ":main", "train.py:1st", "a-b:main", "/x/y:main")
        ),
    ],
)
def test_an_invalid_call_fails_with_its_reason(
    words: tuple[str, ...], variables: dict[str, str], error: str, tmp_path: Path, command: Command
) -> None:
    written(tmp_path, section())
    done = command(*words, **variables)
    assert done.stderr.startswith(f"error: {error}")
    allowed = "allowed: package.module:function or file.py:function"
    assert ("TARGET '" in error) is (allowed in done.stderr)
    assert done.returncode == 2


@pytest.mark.parametrize(
    "words",
    [
        *(["run", "config.json", "train.py:main", f"--{option}", ""] for option in ("resume", "sweep-id")),
        ["run", "config.json", "train.py:main", "--machines", "{}", "--resume", ""],
        *([verb, ""] for verb in ("join", "open", "status", "logs", "export", "report", "cancel", "clean")),
    ],
    ids=" ".join,
)
def test_an_empty_sweep_id_is_refused(words: list[str], tmp_path: Path, command: Command) -> None:
    """`--resume "$SWEEP"` must not start a new sweep."""
    written(tmp_path, section(count=1, directory="made"))
    (tmp_path / "train.py").write_text("def main(): open('called', 'w')")
    done = command(*words, *(["--format", "csv"] if "export" in words else []))
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert '""' in done.stderr or "''" in done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [((*RUN, "--wrokers", "2"), "--wrokers"), (("schema", "--", "x"), "schema takes nothing after --")],
)
def test_an_unknown_option_or_argument_is_a_usage_error(
    words: tuple[str, ...], error: str, command: Command
) -> None:
    done = command(*words)
    assert error in done.stderr
    assert (done.returncode, done.stdout) == (2, "")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a script and a performed sweep."""
    written(tmp_path, section(count=1))
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
        *("drain sweep1 --worker 0", "run config.json train.py:main --resume sweep1"),
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
        ("run", "config.json", "train.py:main", "--backend", "local", "--directory", "."),
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
