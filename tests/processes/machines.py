"""Machines of one sweep, for tests: processes with folders of their own, each `parallel-hpo join …`."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import psutil

from tests.commands import Started, start_command
from tests.processes.conftest import DEADLINE_S, MAINS, RANDOM, Entry, RealSweep, rows

LEASE_S: Final = 8.0
"""Long enough for a busy machine to be heard in time, short enough to wait for."""


@dataclass
class Machine:
    """A `parallel-hpo join`."""

    name: str
    process: Started

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and its stderr."""
        said = self.process.communicate(timeout=DEADLINE_S)[1]
        return self.process.returncode, said


class Machines:
    """One sweep on a standalone server, and the machines that join it."""

    def __init__(self, sweep: RealSweep, variables: dict[str, str]) -> None:
        self.folder = sweep.folder
        self._sweep = sweep
        self._env = sweep.env | variables
        self._env.pop("PARALLEL_HPO_BACKEND", None)
        self.sweep_id = ""
        self._count = 0
        self._started: list[Machine] = []

    def create(self, main: str, *, count: int, **section: Any) -> None:
        """Create the sweep; no machine has the file with its `main`, so that it travels."""
        (self.folder / MAINS.name).write_bytes(MAINS.read_bytes())
        keys = {"workers": 2, "sweep_configuration": RANDOM, "machines": {"node_timeout_s": LEASE_S}}
        (self.folder / "config.json").write_text(json.dumps({"hpo": keys | {"count": count} | section}))
        words = ("run", "config.json", f"{MAINS.name}:{main}", "--create", "--directory", "creator")
        made = start_command(*words, folder=self.folder, environment=self._env)
        stdout, stderr = made.communicate(timeout=DEADLINE_S)
        assert made.returncode == 0, stderr
        self.sweep_id, self._count = stdout.strip(), count

    def join(self, name: str, *, url: str | None = None) -> Machine:
        """Let a machine join, which reaches the server by this address."""
        address = {} if url is None else {"WANDB_BASE_URL": url}
        (self.folder / name).mkdir()
        words = ("join", self.sweep_id, "--name", name, "--directory", "sweeps")
        environment = self._env | address
        process = start_command(*words, folder=self.folder / name, environment=environment)
        self._started.append(Machine(name, process))
        return self._started[-1]

    def go(self) -> None:
        """Let the runs of `held` end."""
        self._sweep.go()

    def entries(self, machine: Machine | None = None) -> list[Entry]:
        """Return the attempts that have entered `main`, on a machine or on all."""
        found = self._sweep.entries()
        return [entry for entry in found if machine is None or f"/{machine.name}/" in entry.facts["home"]]

    def wait_inside(self, machine: Machine, number: int) -> set[str]:
        """Wait until this many runs have entered `main` on a machine; return their ids."""
        self.wait_until(lambda: len(self.entries(machine)) >= number, f"{number} runs on {machine.name}")
        return {entry.run_id for entry in self.entries(machine)}

    def run_again(self, machine: Machine) -> set[str]:
        """Return the runs whose second attempt entered `main` on a machine."""
        return {entry.run_id for entry in self.entries(machine) if entry.attempt == 2}

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"never came: {what}"
            time.sleep(0.02)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the pool's events of a kind, in their order."""
        found = self._rows("SELECT kind, body FROM pool_events ORDER BY number")
        return [json.loads(body) if isinstance(body, str) else body for known, body in found if known == kind]

    def _rows(self, query: str) -> list[Any]:
        return rows(self.folder / "server" / "server.db", query)

    def expect_all_done(self, *machines: Machine) -> None:
        """Expect the machines to leave with 0; pool, server and journal must agree on the count."""
        for machine in machines:
            code, said = machine.finish()
            assert code == 0, said
        ended = [event["run_id"] for event in self.events("ended")]
        attempts = [(entry.run_id, entry.attempt) for entry in self.entries()]
        states = dict(self._rows("SELECT name, state FROM runs"))
        assert len(ended) == len(set(ended)) == self._count
        assert {run for run, _ in attempts} == set(ended) == set(states)
        assert len(attempts) == len(set(attempts)), "an attempt was made twice"
        assert set(states.values()) <= {"finished", "failed"}
        assert self._rows("SELECT state FROM sweeps") == [("FINISHED",)]

    def close(self) -> None:
        for machine in self._started:
            with suppress(psutil.NoSuchProcess):
                top = psutil.Process(machine.process.pid)
                for process in [*top.children(recursive=True), top]:
                    process.kill()
            machine.process.communicate()


@contextmanager
def joining(sweep: RealSweep, variables: dict[str, str]) -> Iterator[Machines]:
    """Machines that join a sweep on the server at `variables`; none of them outlives the block."""
    made = Machines(sweep, variables)
    try:
        yield made
    finally:
        made.close()
