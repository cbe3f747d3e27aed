"""Runs a script as its user would: alone or as a sweep, to its end or killed while it works."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from scripts.framework_rows.environments import ROOT, Untried
from scripts.framework_rows.evidence import TableRun, judge, last_line
from scripts.framework_rows.leftovers import ask_to_leave, left, look_around
from scripts.framework_rows.rows import BEGUN, PROJECT, RUNS, WORKERS, Row

MAINS: Final = ROOT / "scripts" / "framework_mains"
FOREIGN: Final = ("WANDB_", "PARALLEL_HPO_", "XDG_", "PYTHON", "OMP_", "MKL_", "HF_")
"""Prefixes of variables of the developer's shell that would change a trial."""
LIMIT_S: Final = 600.0
"""Timeout in seconds, long enough that only a hang exceeds it."""
INSIDE_S: Final = 0.3
"""Time from a run's first output until its worker is killed, in seconds; its processes are busy by then."""


@dataclass(frozen=True)
class Alone:
    """A run of the script without a sweep."""

    took_s: float
    left: list[str]


class SessionSetup:
    """A folder of its own with `home`, `tmp`, and `work`, in which the script runs."""

    def __init__(self, folder: Path, python: Path) -> None:
        self._folder = folder
        for place in ("home", "tmp", "work"):
            (folder / place).mkdir(parents=True)
        own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self._env = own | {
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "PATH": f"{python.parent}:{own['PATH']}",  # as `source bin/activate` does it
            "WANDB_ERROR_REPORTING": "false",
        }

    def alone(self, row: Row, *, killed: bool) -> Alone:
        """Run the script alone, to its end or until it is killed while it works.

        Raises:
            Untried: it doesn't work here even alone.
        """
        before = look_around()
        self._lay(row, {"apply": False})
        began = time.monotonic()
        said = [self._folder / "said.log"]
        with self._started(_alone(row), {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}) as process:
            if killed:
                self._kill(process, lambda: said, lambda _: psutil.Process(process.pid))
            code = _wait(process)
        took_s = time.monotonic() - began
        if killed:
            ask_to_leave(self._env)
        elif code:
            raise Untried(f"the script fails alone, with exit code {code}: {last_line(self._folder)}")
        return Alone(took_s, left(before, self._env))

    def sweep(self, row: Row, *, preload: bool, known: frozenset[str]) -> TableRun:
        """Run a sweep of the script, and kill one of its workers; `known`: leftovers of the script alone."""
        before = look_around()
        self._lay(row, _section(row, self._folder, preload=preload))
        command = ["parallel-hpo", "run", "config.json"] if row.command else ["python", row.script]
        began = time.time()
        with self._started(command, {}) as process:
            killed_at = self._kill(process, self._outputs, lambda log: _worker(process.pid, log))
            _wait(process)
        found = [kind for kind in left(before, self._env) if kind not in known]
        return judge(row, self._folder, self._env, began=began, killed_at=killed_at, left=found)

    def _lay(self, row: Row, section: Mapping[str, Any]) -> None:
        shutil.copy(MAINS / row.script, self._folder / "work")
        (self._folder / "work" / "config.json").write_text(json.dumps({"hpo": section}))

    @contextmanager
    def _started(self, command: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command; the block waits for its end, and kills it on leaving."""
        path = shutil.which(command[0], path=self._env["PATH"]) or command[0]
        with (self._folder / "said.log").open("ab") as said:
            process = subprocess.Popen(
                [path, *command[1:]],
                env={**self._env, **env},
                cwd=self._folder / "work",
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _kill(
        self,
        process: subprocess.Popen[bytes],
        logs: Callable[[], Iterable[Path]],
        victim: Callable[[Path], psutil.Process],
    ) -> float | None:
        """Kill the victim once a log shows that its run trains; return the time, or None if none did."""
        deadline = time.monotonic() + LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            begun = [log for log in logs() if BEGUN in log.read_text(errors="replace")]
            if begun:
                time.sleep(INSIDE_S)
                with suppress(psutil.Error):  # ended by itself
                    victim(begun[0]).send_signal(signal.SIGKILL)
                return time.time()
            time.sleep(0.01)
        return None

    def _outputs(self) -> Iterator[Path]:
        return self._folder.glob("sweeps/*/worker-*/output.log")


def _alone(row: Row) -> list[str]:
    """Return the command that runs the script without a sweep."""
    known = {"${interpreter}": "python", "${program}": row.script}
    words = [known.get(word, word) for word in row.command or ("${interpreter}", "${program}")]
    return [word for word in words if not word.startswith("$")]


def _section(row: Row, folder: Path, *, preload: bool) -> dict[str, Any]:
    program = {"program": row.script, "command": list(row.command)} if row.command else {}
    return {
        "count": RUNS,
        "workers": WORKERS,
        "devices": "cpu",
        "backend": "local",
        "project": PROJECT,
        "directory": str(folder / "sweeps"),
        "preload": list(row.preload) if preload else [],
        "sweep_configuration": {
            "method": "random",
            "metric": {"name": row.metric, "goal": row.goal},
            "parameters": dict(row.parameters),
            **program,
        },
    }


def _worker(supervisor: int, log: Path) -> psutil.Process:
    """Return the worker with this output; none was replaced yet, so they are in the order of slots."""
    slot = int(log.parent.name.removeprefix("worker-"))
    children = psutil.Process(supervisor).children()
    servers = [child for child in children if "parallel_hpo.worker.forkserver" in child.cmdline()]
    return sorted(servers[0].children(), key=lambda worker: (worker.create_time(), worker.pid))[slot]


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for its end, and kill it after the timeout."""
    try:
        return process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
