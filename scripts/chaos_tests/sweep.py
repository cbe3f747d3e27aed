"""One sweep under fire, in a folder of its own, and what must hold at its end; `scripts/chaos` fires."""

from __future__ import annotations

import json
import os
import re
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

from tests.power import Disk
from tests.processes.consistency import disagreements

ROOT: Final = Path(__file__).parents[2]
TARGET: Final = Path(__file__).with_name("run.py")
GONE_WITHIN_S: Final = 5.0
RETRIES: Final = 1000
"""So many that no run runs out of them."""


@dataclass(slots=True)
class Sweep:
    """One sweep in a folder of its own, through as many supervisors as it takes."""

    folder: Path
    runs: int
    workers: int
    disk: Disk | None = None
    """What the ledger, the server's database and the workers' folders are on; None: all is on one disk.

    The journals, which say what really happened, are never there.
    """
    never_offline: bool = False
    """Whether no run writes offline."""
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
            "retries": RETRIES,
            "restart": {"max_restarts": 1000, "backoff_s": 0.1, "backoff_max_s": 0.5},
            "failures": {"max_initial": None},
            "sweep_configuration": {
                "method": "grid",
                "metric": {"name": "loss"},
                "parameters": {"x": {"values": list(range(self.runs))}},
            },
        }

    def _environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "PARALLEL_HPO_"))}
        path = os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH")]))
        own |= {"NEVER_OFFLINE": "1"} if self.never_offline else {}
        return own | {"PYTHONPATH": path, "HOME": str(self.folder), "JOURNALS": str(self.journals)}

    @property
    def directory(self) -> Path:
        return (self.folder if self.disk is None else self.disk.folder) / "sweeps"

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
        if event == "wandb-core killed":
            return [core for worker in self.workers_seen for core in _children(worker) if _is_core(core)]
        return [process for process in self.workers_seen if _runs(process, "parallel_hpo.worker.forkserver")]

    def wait_until_gone(self) -> list[str]:
        """Return the processes that live on too long after the supervisor's end, in words."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while (left := self.processes()) and time.monotonic() < deadline:
            psutil.wait_procs(left, timeout=0.05)
        return [f"left alive: {_in_words(process)}" for process in left]

    def kill(self) -> None:
        """End whatever is left of it, and see it leave."""
        left = self.processes()
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait()
        psutil.wait_procs(left, timeout=GONE_WITHIN_S)


def _runs(process: psutil.Process, module: str) -> bool:
    """Whether it lives, and is one of these."""
    try:
        return module in process.cmdline()
    except psutil.Error:
        return False


def _is_core(process: psutil.Process) -> bool:
    try:
        return process.name() == "wandb-core"
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


def faults(sweep: Sweep, *, may_fail: bool = False) -> Iterator[str]:
    """Yield what a sweep that has ended should not be, in words; `may_fail`: its runs may have other ends."""
    code = sweep.supervisor.poll()
    if code != 0:
        yield f"exit code {code}"
    yield from sweep.wait_until_gone()
    path = sweep.directory / f"{sweep.sweep_id}" / "summary.json"
    if not path.exists():
        yield "no summary"
        return
    summary = json.loads(path.read_text())
    yield from disagreements(sweep.directory, retries=RETRIES)
    expected = {"attempted": sweep.runs, "finished": sweep.runs, "lost": 0}
    for key, number in expected.items():
        if summary[key] != number and not (may_fail and key == "finished"):
            yield f"{key}: {summary[key]} in the summary, not {number}"
    entered = {path.stem for path in sweep.journals.iterdir()}
    known = {run["run_id"] for run in summary["runs"]}
    yield from (f"run {name} was performed, and is not in the summary" for name in entered - known)
    with closing(sqlite3.connect(sweep.directory / "server.db")) as server:
        for run in summary["runs"]:
            if run["outcome"] == "finished":
                yield from _faults_of_run(sweep, run, server)
            elif not may_fail:
                yield f"run {run['run_id']}: {run['outcome']} ({run['reason']})"


def _faults_of_run(sweep: Sweep, run: dict[str, Any], server: sqlite3.Connection) -> Iterator[str]:
    """Compare what a finished run did, by its own journal, with its history on the server."""
    name = run["run_id"]
    path = sweep.journals / f"{name}.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    last = [entry for entry in entries if entry["attempt"] == run["attempts"]]
    if not last or last[-1]["event"] != "leave":
        yield f"run {name}: its last attempt, the {run['attempts']}th, never left main"
    logged = [entry["logged"] for entry in last if entry["event"] == "log"]
    ways = [entry["way"] for entry in entries if entry["event"] == "enter"]
    rows = server.execute(
        "SELECT text FROM lines JOIN runs ON runs.id = lines.run_id"
        " WHERE runs.name = ? AND stream = 0 ORDER BY number",
        (name,),
    )
    stored = [json.loads(text) for (text,) in rows]
    ending = [{key: row.get(key) for key in ("loss", "line")} for row in stored[-len(logged) :]]
    if logged and ending != logged and not _is_named(sweep, name):
        yield f"run {name} ({', '.join(ways)}): its history ends in {ending}, but it logged {logged}"


def _is_named(sweep: Sweep, run: str) -> bool:
    """Whether the sweep has said that what this run wrote offline could not be sent, and how to send it."""
    said = (sweep.folder / "log").read_text()
    return re.search(rf"send it by: wandb sync \S.*/offline-run-\S+-{run}$", said, re.MULTILINE) is not None
