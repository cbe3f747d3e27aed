"""Uploads by the command line, from a sweep's own server to another one, and what is in both databases."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from parallel_hpo.core.errors import ExitCode
from tests.commands import Started, call_command, start_command
from tests.contract.serving import DEADLINE_S, Server

KEPT: Final = (
    *("name", "state", "exitcode", "tags", "notes"),
    *("group_name", "job_type", "host", "program", "summary"),
)
MARK: Final = "uploaded by parallel_hpo from sweep"
HISTORY, EVENTS, CONSOLE = range(3)


def opened(folder: Path) -> closing[sqlite3.Connection]:
    """Open a server's database to read."""
    return closing(sqlite3.connect(f"file:{folder / 'server.db'}?mode=ro", uri=True))


class Said:
    """A sweep in one server's database."""

    def __init__(self, folder: Path, sweep_id: str) -> None:
        """`folder` contains its database and its files."""
        self._files = folder / "server-files"
        self.sweep_id = sweep_id
        with opened(folder) as self._database:
            self._database.row_factory = sqlite3.Row
            (self.sweep,) = self._rows("SELECT * FROM sweeps WHERE id = ?", sweep_id)
            self.configuration = yaml.safe_load(self.sweep["config"])
            runs = self._rows("SELECT * FROM runs WHERE sweep_id = ? ORDER BY id", sweep_id)
            self.runs = {run["name"]: self._run(run) for run in runs}
            self.artifacts = sorted(self._artifacts(runs), key=str)
            self.uses = sorted(self._uses())

    def _rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        return self._database.execute(query, values).fetchall()

    def _run(self, run: sqlite3.Row) -> dict[str, Any]:
        config = json.loads(run["config"])
        config.get("_wandb", {}).get("value", {}).pop("t", None)  # which client has sent it
        told = {name: _loaded(run[name]) for name in KEPT}
        return told | {
            "config": config,
            "history": [
                (line["number"], line["step"], json.loads(line["text"])) for line in self._lines(run, HISTORY)
            ],
            # The runtime counts from the run's first attempt.
            "events": [json.loads(line["text"]) | {"_runtime": 0} for line in self._lines(run, EVENTS)],
            # A console line without its time, that of sending.
            "console": [
                re.sub(r"^(ERROR )?\S* ?", r"\1", line["text"]) for line in self._lines(run, CONSOLE)
            ],
            "files": sorted(self._files_of(run)),
        }

    def _lines(self, run: sqlite3.Row, stream: int) -> list[sqlite3.Row]:
        return self._rows(
            "SELECT * FROM lines WHERE run_id = ? AND stream = ? ORDER BY number", run["id"], stream
        )

    def _files_of(self, run: sqlite3.Row) -> Iterator[tuple[str, bytes]]:
        for row in self._rows("SELECT name FROM run_files WHERE run_id = ?", run["id"]):
            # `wandb sync` writes these again, from the same values and lines.
            if row["name"] not in {"config.yaml", "wandb-summary.json", "output.log"}:
                yield row["name"], (self._files / str(run["id"]) / row["name"]).read_bytes()

    def _artifacts(self, runs: list[sqlite3.Row]) -> Iterator[dict[str, Any]]:
        names = ("version", "digest", "client_id", "description", "metadata", "tags", "size", "file_count")
        for run in runs:
            query = (
                "SELECT a.*, c.name AS collection, c.type FROM artifacts a JOIN artifact_collections c"
                " ON c.id = a.collection_id WHERE a.run_id = ? AND a.state = 'COMMITTED'"
            )
            for artifact in self._rows(query, run["id"]):
                told = {name: artifact[name] for name in ("collection", "type", *names)}
                aliases = self._rows(
                    "SELECT alias FROM artifact_aliases WHERE artifact_id = ?", artifact["id"]
                )
                files = self._rows(
                    "SELECT path, digest, ref FROM artifact_files WHERE artifact_id = ?", artifact["id"]
                )
                yield told | {
                    "run": run["name"],
                    "aliases": sorted(row["alias"] for row in aliases),
                    "files": sorted(map(tuple, files), key=str),
                }

    def _uses(self) -> Iterator[tuple[str, str, int]]:
        query = (
            "SELECT r.name, c.name, a.version FROM artifact_uses u JOIN runs r ON r.id = u.run_id"
            " JOIN artifacts a ON a.id = u.artifact_id JOIN artifact_collections c ON c.id = a.collection_id"
            " WHERE r.sweep_id = ?"
        )
        yield from map(tuple, self._rows(query, self.sweep_id))


def _loaded(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def all_rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that a server's database has."""
    with opened(folder) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


@dataclass
class Uploads:
    """A sweep, and the destination server."""

    directory: Path
    """Folder of the sweep's own server."""
    sweep_id: str
    target: Server

    def start(self, *words: str, env: Mapping[str, str] = MappingProxyType({})) -> Started:
        return start_command(*self._line, *words, folder=self.directory, environment=self._login | dict(env))

    def refused(self, env: Mapping[str, str] = MappingProxyType({})) -> str:
        """Return the stderr of an upload that does not begin, called in this process."""
        done = call_command(*self._line, folder=self.directory, environment=self._login | dict(env))
        assert done.returncode == ExitCode.USAGE
        return done.stderr

    @property
    def _line(self) -> tuple[str, ...]:
        return "upload", self.sweep_id, "--directory", str(self.directory)

    @property
    def _login(self) -> dict[str, str]:
        login = {"WANDB_BASE_URL": self.target.said["url"], "WANDB_API_KEY": self.target.said["api_key"]}
        return self.target.env | login

    def call(self, *words: str, code: int = 0, env: Mapping[str, str] = MappingProxyType({})) -> str:
        """Upload, and return stdout, or stderr if another code than 0 is expected."""
        command = self.start(*words, env=env)
        stdout, stderr = command.communicate(timeout=DEADLINE_S)
        assert command.wait() == code, stderr + stdout
        return stderr if code and "--json" not in words else stdout

    def call_for_json(self, *words: str, code: int = 0, env: Mapping[str, str] = MappingProxyType({})) -> Any:
        return json.loads(self.call("--json", *words, code=code, env=env))

    def here(self) -> Said:
        return Said(self.directory, self.sweep_id)

    def there(self, answer: Any) -> Said:
        return Said(self.target.folder, answer["target"].rpartition("/")[2])

    def number(self, table: str, project: str) -> int:
        """Return how many sweeps or runs the other server has in a project."""
        query = f"SELECT count(*) FROM {table} t JOIN projects p ON p.id = t.project_id WHERE p.name = ?"
        with opened(self.target.folder) as database:
            (number,) = database.execute(query, (project,)).fetchone()
            return int(number)
