"""The setting of a measurement: a folder, a sweep server, and the timed processes.

    Scene ── optimize() ──▶ drive.py: one `HPO.optimize` ─┐
          ── stock() ─────▶ stock.py: one `wandb.agent` ──┼──▶ Journal: who was where, when
          ── bare() ──────▶ bare.py: a plain loop ────────┘

All of them run `mains`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from scripts.benchmarks.asking import Address

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
LIMIT_S: Final = 240.0
"""Timeout in seconds, long enough that only a hang exceeds it."""
LOOK_S: Final = 0.002
"""Time between two looks at a journal, in seconds; the measured times are in its lines."""
FOREIGN: Final = ("WANDB_", "PARALLEL_HPO_")
EMPTY_SPACE: Final = {
    "method": "random",
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}


class Journal:
    """The events that the mains wrote down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def times(self, event: str) -> list[float]:
        """Return the times of an event, earliest first, in monotonic seconds."""
        return sorted(at for name, at, _ in self._lines() if name == event)

    def by_process(self, event: str) -> dict[int, list[float]]:
        """Return the times of an event by process id."""
        times: dict[int, list[float]] = {}
        for name, at, pid in self._lines():
            if name == event:
                times.setdefault(pid, []).append(at)
        return times

    def wait_for(self, event: str, number: int = 1) -> list[float]:
        """Wait until an event has happened `number` times; return the times."""
        deadline = time.monotonic() + LIMIT_S
        while len(times := self.times(event)) < number:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{number} × {event} did not happen within {LIMIT_S:g} s: {self.path}")
            time.sleep(LOOK_S)
        return times

    def _lines(self) -> list[tuple[str, float, int]]:
        if not self.path.exists():
            return []
        *lines, _unfinished = self.path.read_text().split("\n")
        return [_read(line) for line in lines]


def _read(line: str) -> tuple[str, float, int]:
    event, at, pid = json.loads(line)
    return event, at, pid


class Process:
    """A timed process and its journal; `began` is the time just before its start."""

    def __init__(self, command: list[str], env: Mapping[str, str], journal: Journal, folder: Path) -> None:
        self.journal = journal
        self._words = journal.path.with_suffix(".log")
        self.began = time.monotonic()
        with self._words.open("ab") as words:
            self.popen = subprocess.Popen(
                command,
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )

    def finish(self) -> float:
        """Wait for its end; return its duration in seconds."""
        code = self.popen.wait(LIMIT_S)
        took = time.monotonic() - self.began
        if code:
            raise RuntimeError(
                f"a measured process ended with exit code {code}: {self._words.read_text()[-3000:]}"
            )
        return took

    def last_line(self) -> str:
        """Return the last line that it printed."""
        return self._words.read_text().splitlines()[-1]

    def end(self, number: int = signal.SIGINT) -> None:
        """Send a signal, and kill the process if it has not ended after 20 s."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
            try:
                self.popen.wait(20)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


class Scene:
    """A temporary folder with a sweep server; a context manager that cleans up everything."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="parallel_hpo-bench-"))
        self._number = 0
        self._started: list[Process] = []
        self._servers: list[subprocess.Popen[str]] = []
        places = {name: str(self.folder / "home") for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR")}
        (self.folder / "home").mkdir()
        own = {name: value for name, value in environment.items() if not name.startswith(FOREIGN)}
        self.env = own | places | {"NETRC": str(self.folder / "netrc"), "PYTHONPATH": str(ROOT)}
        self.env["WANDB_ERROR_REPORTING"] = "false"
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            process.end()
        self._end_servers()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- the server that stock agents and bare loops talk to, and joined sweeps are on --------

    @property
    def server(self) -> dict[str, str]:
        """The address and key of the sweep server, which starts on first use."""
        if not self._said:
            self._said = self.another_server("--database", str(self.folder / "server.db"))
        return self._said

    @property
    def address(self) -> Address:
        """The same server, for a client of our own."""
        said = self.server
        return Address(said["url"], said["api_key"], self._servers[0].pid, self.folder / "server.db")

    def slow_server(self, delay_s: float) -> dict[str, str]:
        """The same server behind a proxy that delays every answer."""
        said = self._start_server([sys.executable, str(HERE / "slow.py"), self.server["url"], str(delay_s)])
        return {**self.server, **said}

    def another_server(self, *place: str) -> dict[str, str]:
        """Start a sweep server; return its description."""
        return self._start_server([sys.executable, "-m", "parallel_hpo", "server", *place])

    def metered_server(self, meter: Path, database: str) -> Address:
        """Start a sweep server that keeps its meter in a file."""
        place = ("--database", database, "--files", str(self.folder / "files"))
        said = self._start_server([sys.executable, str(HERE / "metered.py"), str(meter), *place])
        return Address(said["url"], said["api_key"], self._servers[-1].pid, Path(database))

    @contextmanager
    def closing_servers(self) -> Iterator[None]:
        """End all servers after the block, before their folder is deleted."""
        try:
            yield
        finally:
            self._end_servers()

    def _end_servers(self) -> None:
        while self._servers:
            server = self._servers.pop()
            server.terminate()
            server.communicate()

    def _start_server(self, command: list[str]) -> dict[str, str]:
        process = subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._servers.append(process)
        assert process.stdout is not None
        said: dict[str, str] = json.loads(process.stdout.readline())
        return said

    def client(self, server: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a client of the server."""
        at = server or self.server
        return {"WANDB_BASE_URL": at["url"], "WANDB_API_KEY": at["api_key"]}

    def new_sweep(self, configuration: Mapping[str, Any] = EMPTY_SPACE) -> str:
        """Create a sweep on the server; return its path."""
        code = "import json, sys, wandb; print('id', wandb.sweep(json.loads(sys.argv[1]), project='bench'))"
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(configuration)],
            env=self.env | self.client(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("id ")]
        return f"local/bench/{line.removeprefix('id ')}"

    def pause(self, sweep: str) -> None:
        """Pause a sweep, so that its agents wait."""
        at = self.server
        token = b64encode(f"api:{at['api_key']}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        address = f"{at['url']}/hpo/sweeps/{sweep}/state"
        request = urllib.request.Request(address, b'{"state": "PAUSED"}', headers)
        urllib.request.urlopen(request, timeout=10).close()

    # --- timed processes ------------------------------------------------------------------------

    def optimize(
        self,
        main: str,
        section: Mapping[str, Any],
        *,
        sweep: str | None = None,
        server: Mapping[str, str] | None = None,
        **env: str,
    ) -> Process:
        """Start a process that calls `optimize`: on a sweep of the server, or on a new one of its own."""
        journal = self._journal()
        known: dict[str, Any] = {"sweep_configuration": EMPTY_SPACE, "backend": "local"}
        if sweep is not None:
            known = {"backend": "wandb", "sweep_id": sweep}
            env = env | self.client(server)
        directory = str(journal.path.with_suffix(".sweeps"))
        config = journal.path.with_suffix(".json")
        config.write_text(json.dumps({"hpo": {"directory": directory} | known | dict(section)}))
        return self._start("drive.py", journal, env, str(config), main)

    def resume(self, main: str, before: Process, sweep_id: str) -> Process:
        """Start a process that resumes a sweep of an earlier `optimize`."""
        config = before.journal.path.with_suffix(".json")
        return self._start("drive.py", self._journal(), {}, str(config), main, sweep_id)

    def stock(
        self, main: str, sweep: str, count: int, server: Mapping[str, str] | None = None, **env: str
    ) -> Process:
        """Start a process with a stock `wandb.agent`."""
        return self._start("stock.py", self._journal(), env | self.client(server), main, sweep, str(count))

    def bare(self, main: str, times: int, server: Mapping[str, str] | None = None, **env: str) -> Process:
        """Start a process that calls `main` in a loop."""
        return self._start("bare.py", self._journal(), self.client(server) | env, main, str(times))

    def command(self, *words: str, **env: str) -> Process:
        """Start a `parallel-hpo` command whose sweeps are on the server."""
        return self._launch(
            [sys.executable, "-m", "parallel_hpo", *words], self._journal(), self.client() | env
        )

    def script(self, name: str, *arguments: str, **env: str) -> Any:
        """Run another script of this folder to its end; return the JSON that it printed last."""
        journal = self._journal()
        process = self._start(name, journal, env, *arguments)
        process.finish()
        return json.loads(process.last_line())

    def several(self, number: int, start: Callable[[], Process]) -> list[Process]:
        """Start several processes at once."""
        return [start() for _ in range(number)]

    def _start(self, script: str, journal: Journal, env: Mapping[str, str], *arguments: str) -> Process:
        return self._launch([sys.executable, str(HERE / script), *arguments], journal, env)

    def _launch(self, command: list[str], journal: Journal, env: Mapping[str, str]) -> Process:
        folder = journal.path.with_suffix(".files")
        folder.mkdir()
        own = {"BENCH_JOURNAL": str(journal.path), "WANDB_DIR": str(folder)}
        process = Process(command, self.env | own | dict(env), journal, folder)
        self._started.append(process)
        return process

    def _journal(self) -> Journal:
        self._number += 1
        return Journal(self.folder / f"{self._number}.journal")


def end_all(processes: list[Process], number: int = signal.SIGINT) -> None:
    """Kill processes that are not needed any more."""
    for process in processes:
        process.end(number)
