"""A fleet under fire, and what must hold at its sweep's end; `scripts/chaos --machines` fires.

Whoever is killed is started again a little later, as an engine or an operator would.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import psutil

from tests.namespaces import Machine, network
from tests.processes.fleet import NODE_TIMEOUT_S, Fleet

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


def torment_machines(
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
