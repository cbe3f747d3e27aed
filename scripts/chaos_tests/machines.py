"""One sweep on several machines under fire, and the checks at its end.

Machines are network namespaces (`tests.namespaces`), each with a folder of its own and a node; the sweep
server is on this machine. Processes that were killed are started again a little later, as an engine or an
operator would.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import psutil

from scripts.chaos_tests.sweep import RETRIES, ROOT, TARGET
from tests.namespaces import Machine, Network, network

NODE_TIMEOUT_S: Final = 10.0
PORT: Final = 8197


@dataclass(slots=True)
class Fleet:
    """A server, machines, and the sweep that they perform."""

    folder: Path
    runs: int
    net: Network
    sweep_id: str = ""
    key: str = ""
    server: subprocess.Popen[bytes] | None = None
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    """The exit codes of nodes that left by themselves."""

    @property
    def journals(self) -> Path:
        return self.folder / "journals"

    @property
    def database(self) -> Path:
        return self.folder / "server" / "server.db"

    def open(self) -> None:
        """Start the server, create the sweep, and start a node on each machine."""
        self.journals.mkdir(parents=True)
        self.start_server()
        config = self.folder / "config.json"
        config.write_text(json.dumps({"hpo": self._section()}))
        command = [sys.executable, "-m", "parallel_hpo", "run", str(config), f"{TARGET}:main", "--create"]
        created = subprocess.run(
            command, env=self._environment("head"), cwd=self.folder, check=True, stdout=subprocess.PIPE
        )
        self.sweep_id = created.stdout.decode().strip()
        for machine in self.net.machines:
            self.start_node(machine)

    def start_server(self) -> None:
        self.database.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "parallel_hpo", "server", "--host", self.net.address]
        command += ["--port", str(PORT), "--database", str(self.database)]
        self._hang_up()
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                command, env=self._environment("server"), stdout=subprocess.PIPE, stderr=log
            )
        assert self.server.stdout is not None
        self.key = json.loads(self.server.stdout.readline())["api_key"]

    def _hang_up(self) -> None:
        """Close the line to a server that has ended."""
        if self.server is not None:
            assert self.server.stdout is not None
            self.server.stdout.close()

    def start_node(self, machine: Machine) -> None:
        home = self.folder / machine.name
        home.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "parallel_hpo", "join", self.sweep_id, "--name", machine.name]
        command += ["--directory", str(home / "sweeps")]
        with (home / "log").open("ab") as log:
            self.nodes[machine.name] = machine.popen(
                command, self._environment(machine.name), cwd=home, stdout=log, stderr=log
            )

    def _section(self) -> dict[str, Any]:
        return {
            "count": self.runs,
            "workers": 2,
            "retries": RETRIES,
            "restart": {"max_restarts": 1000, "backoff_s": 0.1, "backoff_max_s": 0.5},
            "failures": {"max_initial": None},
            "machines": {"node_timeout_s": NODE_TIMEOUT_S},
            "sweep_configuration": {
                "method": "grid",
                "metric": {"name": "loss"},
                "parameters": {"x": {"values": list(range(self.runs))}},
            },
        }

    def _environment(self, name: str) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "PARALLEL_HPO_"))}
        path = os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH")]))
        own |= {"PYTHONPATH": path, "HOME": str(self.folder / name), "JOURNALS": str(self.journals)}
        own |= {"NEVER_OFFLINE": "1"}
        if name != "server":
            own |= {"WANDB_BASE_URL": f"http://{self.net.address}:{PORT}", "WANDB_API_KEY": self.key}
        return own

    def living(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node.poll() is None]

    def processes(self, machine: str | None = None) -> list[psutil.Process]:
        """Return what lives with a machine's home, or with any of them."""
        homes = {
            str(self.folder / name) for name in ([machine] if machine else [*self.nodes, "head", "server"])
        }
        return [process for process in psutil.process_iter() if _home(process) in homes]

    def workers(self) -> list[psutil.Process]:
        """Return the workers of all machines: the children of their fork servers."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if "PARALLEL_HPO_WORKER" in process.environ() and process.name() != "wandb-core":
                    found.append(process)
        return found

    def kill(self) -> None:
        """End whatever is left of it."""
        for process in (left := self.processes()):
            with suppress(psutil.Error):
                process.kill()
        for child in [*self.nodes.values(), *([self.server] if self.server else [])]:
            child.wait()
        self._hang_up()
        psutil.wait_procs(left, timeout=5.0)


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME")
    except (psutil.Error, OSError):
        return None


EVERY_S: Final = {
    "worker killed": 3.0,
    "node killed": 12.0,
    "server killed": 20.0,
    "cable pulled": 8.0,
}
"""Mean time between two events of a kind."""
AWAY_S: Final = (0.2, 4.0)
"""So long after its death is a node or a server started again."""
CUT_S: Final = (0.5, 1.6 * NODE_TIMEOUT_S)
"""So long is a cable out: mostly within a lease, at times beyond it."""
LIMIT_S: Final = 300.0


@dataclass(slots=True)
class Fire:
    """Hits a fleet at random moments until all of its nodes have left."""

    fleet: Fleet
    chance: random.Random
    pace: float = 1.0
    """Times EVERY_S is the mean time between two events."""
    most: int | None = None
    """Maximum number of events; None: no limit. Without one, a machine so slow that processes start less
    often than they are killed never comes to the sweep's end."""
    counts: Counter[str] = field(default_factory=Counter)
    later: list[tuple[float, str, Any]] = field(default_factory=list)
    """When what is put right, and how."""

    def go_on(self) -> bool:
        """Return whether the sweep came to its end in time."""
        while self.fleet.living() and not any(self.fleet.journals.iterdir()):
            time.sleep(0.05)
        began = time.monotonic()
        due = {event: began + self._wait_s(event) for event in EVERY_S}
        while (now := time.monotonic()) < began + LIMIT_S:
            if not self._any_node_to_come() and not self.fleet.living():
                return True
            for event in [event for event, at in due.items() if at <= now]:
                due[event] = now + self._wait_s(event)
                if self.most is None or self.counts.total() < self.most:
                    self._hit(event, now)
            self._put_right(now)
            time.sleep(0.02)
        return False

    def _any_node_to_come(self) -> bool:
        return any(what == "node" for _, what, _ in self.later)

    def _wait_s(self, event: str) -> float:
        return self.chance.expovariate(1 / (EVERY_S[event] * self.pace))

    def _hit(self, event: str, now: float) -> None:
        fleet = self.fleet
        match event:
            case "worker killed":
                if not (workers := fleet.workers()):
                    return
                with suppress(psutil.Error):
                    self.chance.choice(workers).kill()
            case "node killed":
                if not (living := fleet.living()):
                    return
                name = self.chance.choice(living)
                fleet.nodes[name].kill()
                fleet.nodes[name].wait()
                self._plan(now, AWAY_S, "node", self._machine(name))
            case "server killed":
                assert fleet.server is not None
                if any(what == "server" for _, what, _ in self.later):
                    return
                fleet.server.kill()
                fleet.server.wait()
                self._plan(now, AWAY_S, "server", None)
            case "cable pulled":
                machine = self.chance.choice(fleet.net.machines)
                if any(what == "cable" and which is machine for _, what, which in self.later):
                    return
                machine.cut()
                self._plan(now, CUT_S, "cable", machine)
        self.counts[event] += 1

    def _machine(self, name: str) -> Machine:
        return next(machine for machine in self.fleet.net.machines if machine.name == name)

    def _plan(self, now: float, after_s: tuple[float, float], what: str, which: Any) -> None:
        self.later.append((now + self.chance.uniform(*after_s), what, which))

    def _put_right(self, now: float) -> None:
        for entry in [entry for entry in self.later if entry[0] <= now]:
            self.later.remove(entry)
            _, what, which = entry
            match what:
                case "node":
                    self.fleet.start_node(which)
                case "server":
                    self.fleet.start_server()
                case "cable":
                    which.heal()

    def heal(self) -> None:
        """Put all right that is still held."""
        self._put_right(float("inf"))


def hit_machines(
    folder: Path, machines: int, runs: int, seed: int, pace: float = 1.0, most: int | None = None
) -> list[str]:
    """Let one sweep end on machines under fire, of `most` events; return what did not hold."""
    began = time.monotonic()
    with ExitStack() as stack:
        fleet = Fleet(folder, runs, stack.enter_context(network(machines)))
        stack.callback(fleet.kill)
        fleet.open()
        fire = Fire(fleet, random.Random(seed), pace, most)
        ended = fire.go_on()
        fire.heal()
        found = list(faults(fleet)) if ended else [f"no end within {LIMIT_S:g} s", *faults(fleet)]
    hits = ", ".join(f"{number} × {event}" for event, number in sorted(fire.counts.items()))
    attempts = sum(path.read_text().count('"enter"') for path in fleet.journals.iterdir())
    print(
        f"seed {seed}: {runs} runs in {attempts} attempts, {time.monotonic() - began:.0f} s; {hits}",
        flush=True,
    )
    return found


def faults(fleet: Fleet) -> Iterator[str]:
    """Yield what a sweep that has ended on machines should not be, in words."""
    for name, node in fleet.nodes.items():
        if node.poll() not in (0, None):
            yield f"{name} left with {node.returncode}"
    journals = {path.stem: _lines(path) for path in fleet.journals.iterdir()}
    if len(journals) != fleet.runs:
        yield f"{len(journals)} runs were performed, not {fleet.runs}"
    for name, lines in journals.items():
        yield from _faults_of_attempts(name, lines)
    with closing(sqlite3.connect(f"{fleet.database.as_uri()}?mode=ro", uri=True)) as db:
        yield from _faults_of_pool(fleet, db, set(journals))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _faults_of_attempts(name: str, lines: list[dict[str, Any]]) -> Iterator[str]:
    """No attempt does anything once the next one has begun, and the last one leaves `main`."""
    attempts = defaultdict(list)
    for line in lines:
        attempts[line["attempt"]].append(line)
    numbers = sorted(attempts)
    for earlier, later in pairwise(numbers):
        late_s = attempts[earlier][-1]["at"] - attempts[later][0]["at"]
        if late_s > 0:
            yield f"run {name}: attempt {earlier} went on {late_s:.2f} s after attempt {later} had begun"
    if attempts[numbers[-1]][-1]["event"] != "leave":
        yield f"run {name}: its last attempt, the {numbers[-1]}th, never left main"


def _faults_of_pool(fleet: Fleet, db: sqlite3.Connection, entered: set[str]) -> Iterator[str]:
    states = dict(db.execute("SELECT name, state FROM runs WHERE sweep_id = ?", (fleet.sweep_id,)))
    (sweep_state,) = db.execute("SELECT state FROM sweeps WHERE id = ?", (fleet.sweep_id,)).fetchone()
    if sweep_state != "FINISHED":
        yield f"the sweep is {sweep_state}"
    ends: Counter[str] = Counter()
    for (body,) in db.execute(
        "SELECT body FROM pool_events WHERE sweep_id = ? AND kind = 'ended'", (fleet.sweep_id,)
    ):
        ends[json.loads(body)["run_id"]] += 1
    yield from (f"run {name} ended {times} times" for name, times in ends.items() if times != 1)
    if set(ends) != entered:
        yield f"runs that ended, and that entered main, differ by {set(ends) ^ entered}"
    yield from (
        f"run {name} is {states.get(name)} on the server" for name in ends if states.get(name) != "finished"
    )
