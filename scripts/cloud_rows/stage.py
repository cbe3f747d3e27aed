"""Runs the rows' sweeps as a user would, and collects their results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scripts.cloud_rows import mains

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT_S: Final = 600.0
"""Timeout of a sweep or command, in seconds; only a hang exceeds it."""
END_LIMIT_S: Final = 90.0
"""Timeout of a process after it was interrupted, in seconds."""
LAG_LIMIT_S: Final = 60.0
"""Timeout in seconds until the server shows what its clients sent."""
FOREIGN: Final = ("WANDB_", "PARALLEL_HPO_", "CLOUD_CHECK_")
"""Prefixes of variables of the user's shell that would change the rows."""
ACCOUNT: Final = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY")
WORKERS: Final = 2
METRIC: Final = {"name": "loss", "goal": "minimize"}


class AskedInVainError(Exception):
    """A command or a query to the server failed."""


@dataclass(frozen=True)
class Swept:
    """The results of a sweep."""

    code: int
    summary: Mapping[str, Any]
    """The summary; empty if the command printed none."""
    said: str
    """The terminal output."""
    lines: Sequence[Mapping[str, Any]]
    """The journal of its runs."""

    @property
    def run_ids(self) -> set[str]:
        """Ids of the executed runs."""
        return {run["run_id"] for run in self.summary.get("runs", ())}

    @property
    def last_words(self) -> str:
        """The exit code and the last line, for a row that failed."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        return f"exit code {self.code}; {lines[-1] if lines else 'it said nothing'}"


@dataclass
class Going:
    """A sweep that is running."""

    folder: Path
    process: subprocess.Popen[str]

    def wait_for_runs(self, number: int) -> str:
        """Wait until `number` runs have started; return the sweep's id."""
        deadline = time.monotonic() + LIMIT_S
        while len(lines := self.lines()) < number:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AskedInVainError(f"{len(lines)} of {number} runs began; {self.finish().last_words}")
            time.sleep(0.1)
        return str(lines[0]["sweep"])

    def lines(self) -> list[dict[str, Any]]:
        """Return the journal of the sweep's runs."""
        journal = self.folder / mains.JOURNAL
        text = journal.read_text(encoding="utf-8") if journal.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def let_go_on(self) -> None:
        """Let waiting runs continue."""
        (self.folder / mains.GO).touch()

    def interrupt(self) -> None:
        """Send SIGINT."""
        self.process.send_signal(signal.SIGINT)

    def finish(self) -> Swept:
        """Wait for the end, and return the results."""
        stdout, stderr = self.process.communicate(timeout=LIMIT_S)
        summary = json.loads(stdout) if stdout.strip() else {}
        return Swept(self.process.returncode, summary, stderr, self.lines())


@dataclass
class SessionSetup:
    """The account, the rows' project, and a folder for local files."""

    folder: Path
    project: str
    entity: str = ""
    _started: list[Going] = field(default_factory=list, init=False)

    @property
    def path(self) -> str:
        """The project's path on the server."""
        return f"{self.entity}/{self.project}"

    def start(
        self, main: str, sweep: Mapping[str, Any], *, resume: Going | None = None, **keys: Any
    ) -> Going:
        """Start a sweep of one of `mains`, or resume one that ended early."""
        folder = self.folder / f"{len(self._started)}-{main}" if resume is None else resume.folder
        folder.mkdir(parents=True, exist_ok=True)
        words = ["--resume", str(resume.lines()[0]["sweep"])] if resume is not None else []
        config = folder / "config.json"
        if resume is None:
            config.write_text(json.dumps({"hpo": self._section(folder, sweep) | keys}), encoding="utf-8")
        target = f"{Path(mains.__file__)}:{main}"
        process = subprocess.Popen(
            [sys.executable, "-m", "parallel_hpo", "run", str(config), target, "--json", *words],
            env=self._environment() | {mains.FOLDER: str(folder)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in a terminal reaches it only once, by `close`
        )
        going = Going(folder, process)
        self._started.append(going)
        return going

    def sweep(self, main: str, sweep: Mapping[str, Any], **keys: Any) -> Swept:
        """Run a sweep of one of `mains` to its end."""
        return self.start(main, sweep, **keys).finish()

    def ask(self, question: str, path: str = "") -> dict[str, Any]:
        """Query the server; AskedInVainError if it doesn't answer."""
        answer = self.command("scripts.cloud_rows.asking", question, path)
        found: dict[str, Any] = json.loads(answer.splitlines()[-1])
        return found

    def ask_until(self, sweep_id: str, there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the server's data of a sweep once they are complete, or after LAG_LIMIT_S."""
        deadline = time.monotonic() + LAG_LIMIT_S
        while not there(found := self.ask("sweep", f"{self.path}/{sweep_id}")):
            if time.monotonic() > deadline:
                break
            time.sleep(2)
        return found

    def command(self, module: str, *words: str) -> str:
        """Run a module to its end and return its output; AskedInVainError if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            env=self._environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise AskedInVainError(f"{module} {' '.join(words)}: exit code {done.returncode}; {last[0]}")
        return done.stdout

    def close(self) -> None:
        """End the sweeps that are still running."""
        left = [going.process for going in self._started if going.process.poll() is None]
        for process in left:
            process.send_signal(signal.SIGINT)
        for process in left:
            try:
                process.communicate(timeout=END_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    def _section(self, folder: Path, sweep: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "backend": "wandb",
            "workers": WORKERS,
            "devices": "cpu",
            "project": self.project,
            "entity": self.entity,
            "directory": str(folder / "sweeps"),
            "sweep_configuration": {"metric": METRIC} | dict(sweep),
        }

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        account = {name: os.environ[name] for name in ACCOUNT if os.environ.get(name)}
        places = {
            name: str(self.folder / name.lower())
            for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_DIR")
        }
        for place in places.values():
            Path(place).mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, (str(ROOT), own.get("PYTHONPATH", ""))))
        return own | account | places | {"PYTHONPATH": path, "WANDB_ERROR_REPORTING": "false"}
