"""Machines of one sweep, for tests: processes with folders of their own, and cables that can be cut.

standalone server ◀── cable ── parallel-hpo join …, one for each machine
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from tests.commanding import Command, CommandLine
from tests.conftest import make_clean_env
from tests.contract.serving import Server, serving
from tests.processes.conftest import MAINS, RANDOM, Entry, RealSweep

DEADLINE_S: Final = 120.0
"""Several launches take their time on a busy machine; only a hang reaches this."""
LEASE_S: Final = 8.0
"""Long enough for a busy machine to say something in time, short enough to be waited for."""


class Cable:
    """A line to a server that can be cut: bytes wait in it then, as in a network that drops packets."""

    def __init__(self, url: str) -> None:
        self._target = (urlsplit(url).hostname or "", urlsplit(url).port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._whole = threading.Event()
        self._whole.set()
        self._closed = False
        self._ends: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        """Let new connections through; those that were cut are lost."""
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._whole.set()

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.mend()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._ends.add(near)
            thread = threading.Thread(target=self._connect, args=(near,))
            self._threads.append(thread)
            thread.start()

    def _connect(self, near: socket.socket) -> None:
        with near:
            self._whole.wait()
            with suppress(OSError), socket.create_connection(self._target) as far:
                self._ends.add(far)
                self._pass_on(near, far)
                self._ends.discard(far)
        self._ends.discard(near)

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        while True:
            for end in select.select([near, far], [], [])[0]:
                data = end.recv(65536)
                was_whole = self._whole.is_set()
                self._whole.wait()
                if not data or not was_whole:
                    return
                other[end].sendall(data)


@dataclass
class Machine:
    """A `parallel-hpo join`."""

    name: str
    folder: Path
    process: subprocess.Popen[str] | Command

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def tree(self) -> list[psutil.Process]:
        """Return all of its processes, its supervisor first."""
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        return []

    def read_until(self, words: str) -> None:
        """Wait for a line on stderr that has these words."""
        assert self.process.stderr is not None
        assert any(words in line for line in self.process.stderr), f"it ended before it said {words!r}"

    def finish(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said."""
        said = self.process.communicate(timeout=DEADLINE_S)[1]
        return self.process.wait(), said


class Machines:
    """One sweep on a standalone server, and the machines that join it."""

    def __init__(self, sweep: RealSweep, server: Server, commands: CommandLine) -> None:
        self.folder = sweep.folder
        self.server = server
        self._journal = sweep
        self._commands = commands
        self.env = sweep.env | {name: server.client_env[name] for name in ("WANDB_BASE_URL", "WANDB_API_KEY")}
        self.env.pop("PARALLEL_HPO_BACKEND", None)
        self.sweep_id = ""
        self.count = 0
        self._started: list[Machine] = []
        self._cables: list[Cable] = []

    def create(self, main: str, *, count: int, lease_s: float = LEASE_S, **section: Any) -> str:
        """Create the sweep, with what its runs call, a file that no machine has; return its id."""
        (self.folder / MAINS.name).write_bytes(MAINS.read_bytes())
        config = self.folder / "config.json"
        keys = {"workers": 2, "sweep_configuration": RANDOM, "machines": {"node_timeout_s": lease_s}}
        config.write_text(json.dumps({"hpo": keys | {"count": count} | section}))
        words = ("run", str(config), f"{MAINS.name}:{main}", "--create", "--directory")
        made = self._commands.call(
            *words, str(self.folder / "creator"), folder=self.folder, environment=self.env
        )
        assert made.returncode == 0, made.stderr
        self.sweep_id, self.count = made.stdout.strip(), count
        return self.sweep_id

    def join(self, name: str, *more: str, cable: Cable | None = None, **env: str) -> Machine:
        """Have a machine join."""
        address = {} if cable is None else {"WANDB_BASE_URL": cable.url}
        return self._start(name, "join", self.sweep_id, *more, "--name", name, **address, **env)

    def share(self, name: str, share: str, main: str) -> Machine:
        """Have a machine perform a share of the sweep that was created."""
        part = ("--sweep-id", self.sweep_id, "--share", share)
        return self._start(name, "run", str(self.folder / "config.json"), f"{MAINS}:{main}", *part)

    def _start(self, name: str, *more: str, **env: str) -> Machine:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        environment = self.env | env
        words = (*more, "--directory", str(folder / "sweeps"))
        process: subprocess.Popen[str] | Command
        if "--once" in more:  # its end is that of its input
            process = subprocess.Popen(
                [sys.executable, "-m", "parallel_hpo", *words],
                env=environment,
                cwd=folder,
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        else:
            process = self._commands.start(*words, folder=folder, environment=environment)
        self._started.append(Machine(name, folder, process))
        return self._started[-1]

    def told(self, verb: str, sweep: str, directory: Path, **env: str) -> Any:
        """Return what a command says of a sweep, as JSON; no server is named but by `env`."""
        without = {name: value for name, value in self.env.items() if not name.startswith("WANDB_")}
        words = (verb, sweep, "--json", "--directory", str(directory))
        asked = self._commands.call(*words, folder=self.folder, environment=without | env)
        assert asked.returncode == 0, asked.stderr
        return json.loads(asked.stdout)

    def cable(self) -> Cable:
        """Lay a line to the server that can be cut."""
        self._cables.append(Cable(self.server.said["url"]))
        return self._cables[-1]

    def go(self) -> None:
        """Let the runs that are held go on."""
        (self.folder / "go").touch()

    def entries(self, machine: Machine | None = None) -> list[Entry]:
        """Return the attempts that have entered `main`, on a machine or on all."""
        found = self._journal.entries()
        if machine is None:
            return found
        return [entry for entry in found if f"/{machine.name}/" in entry.facts["home"]]

    def wait_until(self, condition: Callable[[], Any], what: str, *, within_s: float = DEADLINE_S) -> Any:
        deadline = time.monotonic() + within_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"never came: {what}"
            time.sleep(0.02)
        return found

    def kill_all(self) -> None:
        for machine in self._started:
            for process in reversed(machine.tree()):
                with suppress(psutil.NoSuchProcess):
                    process.resume()
                    process.kill()
            if machine.process.stderr is not None and not machine.process.stderr.closed:
                machine.process.communicate()
        for cable in self._cables:
            cable.close()

    # --- what became of it -------------------------------------------------------------

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        path = self.server.folder / "server.db"
        with closing(sqlite3.connect(path, timeout=DEADLINE_S)) as database, database:
            return database.execute(sql).fetchall()

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return what the pool noted of a kind, in its order."""
        found = self.query("SELECT kind, body FROM pool_events ORDER BY number")
        return [json.loads(body) if isinstance(body, str) else body for known, body in found if known == kind]

    def disagreements(self) -> list[str]:
        """Return what is not as it must be at the end: pool, server and what the runs did say the same."""
        ended = [event["run_id"] for event in self.events("ended")]
        entered = {entry.run_id for entry in self._journal.entries()}
        states = dict(self.query("SELECT name, state FROM runs"))
        (sweep,) = self.query("SELECT state FROM sweeps")
        attempts = [(entry.run_id, entry.attempt) for entry in self._journal.entries()]
        found = []
        if len(ended) != len(set(ended)):
            found.append(f"runs ended twice: {ended}")
        if len(ended) != self.count:
            found.append(f"{len(ended)} runs ended, of a count of {self.count}")
        if entered != set(ended):
            found.append(f"runs entered main: {sorted(entered)}; ended in the pool: {sorted(set(ended))}")
        if len(attempts) != len(set(attempts)):
            found.append(f"an attempt was made twice: {sorted(attempts)}")
        if wrong := {name: state for name, state in states.items() if state not in ("finished", "failed")}:
            found.append(f"on the server: {wrong}")
        if set(states) != set(ended):
            found.append(f"runs on the server: {sorted(states)}; in the pool: {sorted(set(ended))}")
        if sweep != ("FINISHED",):
            found.append(f"the sweep is {sweep}")
        return found


@contextmanager
def machines_on_a_server(sweep: RealSweep, commands: CommandLine, folder: Path) -> Iterator[Machines]:
    """Run a server in a folder, and machines that join its sweep; none of them outlives the block."""
    (folder / "server").mkdir()
    with serving(folder / "server", make_clean_env(folder / "server" / "home"), commands=commands) as server:
        made = Machines(sweep, server, commands)
        try:
            yield made
        finally:
            made.kill_all()
