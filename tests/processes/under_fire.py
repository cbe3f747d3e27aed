"""One sweep under fire, in a folder of its own, and what must hold at its end; `scripts/chaos` fires."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).parents[2]
TARGET: Final = Path(__file__).with_name("chaotic.py")
GONE_WITHIN_S: Final = 5.0


@dataclass(slots=True)
class Sweep:
    """One sweep in a folder of its own, through as many supervisors as it takes."""

    folder: Path
    runs: int
    workers: int
    process: subprocess.Popen[bytes] | None = None
    workers_seen: set[psutil.Process] = field(default_factory=set)

    def start(self) -> None:
        """Start its supervisor, or the next one on what an earlier one left."""
        config = self.folder / "config.json"
        self.journals.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps({"hpo": self._section()}))
        command = [sys.executable, "-m", "parallel_hpo", "run", str(config), f"{TARGET}:main", "--json"]
        if sweep_id := self.sweep_id:
            command += ["--resume", sweep_id]
        with (self.folder / "out.json").open("wb") as out, (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self._environment(), cwd=self.folder, stdout=out, stderr=log
            )

    def _section(self) -> dict[str, Any]:
        return {
            "directory": str(self.directory),
            "backend": "local",
            "count": self.runs,
            "workers": self.workers,
            "retries": 1000,
            "restart": {"max_restarts": 1000, "backoff_s": 0.1, "backoff_max_s": 0.5},
            "sweep_configuration": {
                "method": "random",
                "metric": {"name": "loss"},
                "parameters": {"x": {"min": 0.0, "max": 1.0}},
            },
        }

    def _environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "PARALLEL_HPO_"))}
        path = os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH")]))
        return own | {"PYTHONPATH": path, "HOME": str(self.folder), "JOURNALS": str(self.journals)}

    @property
    def directory(self) -> Path:
        return self.folder / "sweeps"

    @property
    def journals(self) -> Path:
        return self.folder / "journals"

    @property
    def sweep_id(self) -> str | None:
        """The sweep's id, once it has a ledger that can be resumed from."""
        ledgers = list(self.directory.glob("*/ledger.db"))
        return ledgers[0].parent.name if ledgers else None

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def ended(self) -> bool:
        return self.supervisor.poll() is not None

    def was_started(self) -> bool:
        return self.process is not None

    def has_entered(self) -> bool:
        """Whether the first run is inside `main`."""
        return any(self.journals.iterdir())

    def processes(self) -> list[psutil.Process]:
        """Everything that lives with this sweep's home, whoever its parent is; no zombies."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("HOME") == str(self.folder)
        except (psutil.Error, OSError):
            return False

    def find(self, event: str) -> list[psutil.Process]:
        """Return the processes that an event of this kind may hit."""
        children = psutil.Process(self.supervisor.pid).children()
        if event == "server killed":
            return [child for child in children if _runs(child, "parallel_hpo.server")]
        forks = [child for child in children if _runs(child, "parallel_hpo.worker.forkserver")]
        # A worker looks like its fork server, and is the supervisor's child once that is dead.
        servers = [child for child in forks if child not in self.workers_seen]
        for server in servers:
            self.workers_seen.update(_children(server))
        if event == "fork server killed":
            return servers
        return [process for process in self.workers_seen if _runs(process, "parallel_hpo.worker.forkserver")]

    def wait_until_gone(self) -> list[str]:
        """Return the processes that live on too long after the supervisor's end, in words."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while (left := self.processes()) and time.monotonic() < deadline:
            psutil.wait_procs(left, timeout=0.05)
        return [f"left alive: {_in_words(process)}" for process in left]

    def kill(self) -> None:
        """End whatever is left of it."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait()


def _runs(process: psutil.Process, module: str) -> bool:
    """Whether it lives, and is one of these."""
    try:
        return module in process.cmdline()
    except psutil.Error:
        return False


def _in_words(process: psutil.Process) -> str:
    try:
        return f"{process.pid}, child of {process.ppid()}, {process.status()}: {process.cmdline()}"
    except psutil.Error as gone:
        return str(gone)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


def faults(sweep: Sweep) -> Iterator[str]:
    """Yield what a sweep that has ended should not be, in words."""
    code = sweep.supervisor.poll()
    if code != 0:
        yield f"exit code {code}"
    yield from sweep.wait_until_gone()
    path = sweep.directory / f"{sweep.sweep_id}" / "summary.json"
    if not path.exists():
        yield "no summary"
        return
    summary = json.loads(path.read_text())
    names = [run["run_id"] for run in summary["runs"]]
    expected = {"attempted": sweep.runs, "finished": sweep.runs, "lost": 0}
    for key, number in expected.items():
        if summary[key] != number:
            yield f"{key}: {summary[key]} in the summary, not {number}"
    entered = {path.stem for path in sweep.journals.iterdir()}
    yield from (f"run {name} was performed, and is not in the summary" for name in entered - set(names))
    yield from (f"run {name} is twice in the summary" for name in names if names.count(name) > 1)
    with closing(sqlite3.connect(sweep.directory / "server.db")) as server:
        states = dict(server.execute("SELECT name, state FROM runs"))
        for run in summary["runs"]:
            yield from _faults_of_run(sweep, run, states.get(run["run_id"]), server)
    for name in set(states) - set(names):
        if states[name] != "pending":
            yield f"run {name} is {states[name]} on the server, and not in the summary"


def _faults_of_run(
    sweep: Sweep, run: dict[str, Any], state: str | None, server: sqlite3.Connection
) -> Iterator[str]:
    name = run["run_id"]
    if run["outcome"] != "finished" or state != "finished":
        yield f"run {name}: {run['outcome']} ({run['reason']}), {state} on the server"
    path = sweep.journals / f"{name}.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    last = [entry for entry in entries if entry["attempt"] == run["attempts"]]
    if not last or last[-1]["event"] != "leave":
        yield f"run {name}: its last attempt, the {run['attempts']}th, never left main"
    logged = [entry["logged"] for entry in last if entry["event"] == "log"]
    rows = server.execute(
        "SELECT text FROM lines JOIN runs ON runs.id = lines.run_id"
        " WHERE runs.name = ? AND stream = 0 ORDER BY number",
        (name,),
    )
    stored = [json.loads(text) for (text,) in rows]
    ending = [{key: row.get(key) for key in ("loss", "line")} for row in stored[-len(logged) :]]
    if logged and ending != logged:
        yield f"run {name}: its history ends in {ending}, but it logged {logged}"
