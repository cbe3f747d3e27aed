"""One sweep on many machines: machines or the coordinator die, leave or are cut off.

Machines join by themselves (`machines`), or a coordinator starts nodes on its engine's (`coordinated`).
"""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from parallel_hpo.core.errors import ExitCode
from tests.commands import Started, start_command
from tests.contract.proxy import Harm, proxying
from tests.processes.conftest import (
    DEADLINE_S,
    MAINS,
    RANDOM,
    Entry,
    RealSweep,
    comes,
    command_line,
    expect_gone,
    outcomes,
)
from tests.processes.consistency import rows

pytestmark = pytest.mark.timeout(400)

LEASE_S: Final = 8.0
"""Long enough for a busy machine to be heard in time, short enough to wait for."""


@dataclass
class Machine:
    """A `parallel-hpo join`, in a process with a folder of its own."""

    name: str
    process: Started

    def finish(self, code: int) -> None:
        """Expect it to end with this exit code."""
        said = self.process.communicate(timeout=DEADLINE_S)[1]
        assert self.process.returncode == code, said


class Machines:
    """One sweep on a standalone server, and the machines that join it."""

    def __init__(self, sweep: RealSweep, variables: dict[str, str]) -> None:
        self.folder = sweep.folder
        self.go = sweep.go
        self._sweep = sweep
        self._env = sweep.env | variables
        self._env.pop("PARALLEL_HPO_BACKEND", None)
        self._count = 0
        self.started: list[Machine] = []

    def create(self, main: str, *, count: int) -> None:
        """Create the sweep; no machine has the file with its `main`, so that it travels."""
        (self.folder / MAINS.name).write_bytes(MAINS.read_bytes())
        keys = {"workers": 2, "sweep_configuration": RANDOM, "machines": {"node_timeout_s": LEASE_S}}
        (self.folder / "config.json").write_text(json.dumps({"hpo": keys | {"count": count}}))
        words = ("run", "config.json", f"{MAINS.name}:{main}", "--create", "--directory", "creator")
        made = start_command(*words, folder=self.folder, environment=self._env)
        stdout, stderr = made.communicate(timeout=DEADLINE_S)
        assert made.returncode == 0, stderr
        self.sweep_id, self._count = stdout.strip(), count

    def join(self, name: str, **address: str) -> Machine:
        """Let a machine join, which reaches the server as these variables say."""
        (self.folder / name).mkdir()
        words = ("join", self.sweep_id, "--name", name, "--directory", "sweeps")
        process = start_command(*words, folder=self.folder / name, environment=self._env | address)
        self.started.append(Machine(name, process))
        return self.started[-1]

    def entries(self, machine: Machine | None = None) -> list[Entry]:
        """Return the attempts that have entered `main`, on a machine or on all."""
        found = self._sweep.entries()
        return [entry for entry in found if machine is None or f"/{machine.name}/" in entry.facts["home"]]

    def wait_inside(self, machine: Machine, number: int) -> set[str]:
        """Wait until this many runs have entered `main` on a machine; return their ids."""
        assert comes(lambda: len(self.entries(machine)) >= number), f"{number} runs on {machine.name}"
        return {entry.run_id for entry in self.entries(machine)}

    def run_again(self, *machines: Machine) -> set[str]:
        """Return the runs whose second attempt entered `main` on these machines."""
        entries = [entry for machine in machines for entry in self.entries(machine)]
        return {entry.run_id for entry in entries if entry.attempt == 2}

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the pool's events of a kind, in their order."""
        found = self._rows("SELECT kind, body FROM pool_events ORDER BY number")
        return [json.loads(body) if isinstance(body, str) else body for known, body in found if known == kind]

    def _rows(self, query: str) -> list[Any]:
        return rows(self.folder / "server" / "server.db", query)

    def expect_all_done(self, *machines: Machine) -> None:
        """Expect the machines to leave with 0; pool, server and journal must agree on the count."""
        for machine in machines:
            machine.finish(0)
        ended = [event["run_id"] for event in self.events("ended")]
        attempts = [(entry.run_id, entry.attempt) for entry in self.entries()]
        states = dict(self._rows("SELECT name, state FROM runs"))
        assert len(ended) == len(set(ended)) == self._count
        assert {run for run, _ in attempts} == set(ended) == set(states)
        assert len(attempts) == len(set(attempts)), "an attempt was made twice"
        assert set(states.values()) <= {"finished", "failed"}
        assert self._rows("SELECT state FROM sweeps") == [("FINISHED",)]


@pytest.fixture
def machines(sweep: RealSweep, standalone: dict[str, str]) -> Iterator[Machines]:
    """Machines that can join a sweep; what still runs at the end is killed."""
    made = Machines(sweep, standalone)
    yield made
    for machine in made.started:
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(machine.process.pid)
            for process in [*top.children(recursive=True), top]:
                process.kill()
        machine.process.communicate()


def test_runs_of_a_killed_and_of_a_terminated_machine_continue_on_a_late_machine(machines: Machines) -> None:
    machines.create("held", count=6)
    lost, leaving = machines.join("lost"), machines.join("leaving")
    cut = machines.wait_inside(lost, 2) | machines.wait_inside(leaving, 2)
    lost.process.kill()
    lost.finish(-signal.SIGKILL)
    leaving.process.send_signal(signal.SIGTERM)
    leaving.finish(ExitCode.SIGNAL_BASE + signal.SIGTERM)
    late = machines.join("late")
    machines.wait_inside(late, 2)
    machines.go()
    machines.expect_all_done(late)
    assert machines.run_again(late) == cut


def test_a_machine_that_is_cut_off_kills_its_runs_and_joins_again_later(
    machines: Machines, standalone: dict[str, str]
) -> None:
    machines.create("held", count=5)
    with proxying(standalone["WANDB_BASE_URL"]) as cable:
        cut_off, other = machines.join("cut", WANDB_BASE_URL=cable.url), machines.join("other")
        cut = machines.wait_inside(cut_off, 2)
        machines.wait_inside(other, 2)
        workers = [entry.pid for entry in machines.entries(cut_off)]
        cable.choose = lambda message: Harm.LOSE_REQUEST
        assert comes(lambda: not any(map(psutil.pid_exists, workers)))
        assert comes(lambda: machines.events("left"))
        cable.choose = lambda message: Harm.NONE
        assert comes(lambda: len(machines.events("joined")) == 3)
        machines.go()
        machines.expect_all_done(cut_off, other)
    assert cut <= machines.run_again(cut_off, other)


class CoordinatedSweep:
    """A sweep that a coordinator leads, whose machines are folders (`tests.processes.folder_machines`)."""

    def __init__(self, sweep: RealSweep) -> None:
        self.sweep = sweep
        self.machines = sweep.folder / "machines"

    def lead(self, main: str, *machines: str, resume: str = "", **section: Any) -> RealSweep:
        """Start the coordinator with these machines."""
        for name in machines:
            (self.machines / name).mkdir(parents=True)
        lease = {"node_timeout_s": LEASE_S}
        keys: dict[str, Any] = {"workers": 1, "grace_period_s": 4, "machines": lease}
        words = [self.sweep.configure(**keys | section), f"{MAINS}:{main}", str(self.machines)]
        return self.sweep.python(
            "-m", "tests.processes.folder_machines", *words, *([resume] if resume else [])
        )

    def node(self, name: str) -> psutil.Process:
        """Return the process of a machine's node."""
        named = [each for each in self.sweep.tree() if " join " in command_line(each)]
        return next(each for each in named if name in each.cmdline())


@pytest.fixture
def coordinated(sweep: RealSweep) -> CoordinatedSweep:
    sweep.env["PYTHONPATH"] = str(Path(__file__).parents[2])
    return CoordinatedSweep(sweep)


def test_with_wandbs_server_a_killed_node_is_started_again_and_an_interrupted_sweep_is_resumed(
    coordinated: CoordinatedSweep, sweep: RealSweep, standalone: dict[str, str]
) -> None:
    """A server of ours stands in for W&B's: our own routes are not there, and the coordinator counts."""
    sweep.unlike = "the sweep is on a server that stands in for W&B's"
    del sweep.env["PARALLEL_HPO_BACKEND"]
    seeded: dict[str, Any] = {"count": 5, "seed_parameter": "seed"}
    with proxying(standalone["WANDB_BASE_URL"]) as wandbs:
        wandbs.choose = lambda message: Harm.GONE_404 if message.path.startswith("/hpo/") else Harm.NONE
        sweep.env |= standalone | {"WANDB_BASE_URL": wandbs.url}
        coordinated.lead("held", "gpu1", "gpu2", seed=7, **seeded).wait_for(2)
        coordinated.node("gpu1").kill()
        sweep.wait_for(3)
        processes = sweep.tree()
        sweep.signal(signal.SIGINT)
        cut = sweep.finish()
        expect_gone(processes)
        assert (cut.code, cut.summary["backend"]) == (130, "wandb"), cut.stderr
        assert outcomes(cut.summary) == ["stopped"] * 2
        sweep.go()
        again = coordinated.lead("held", resume=sweep.sweep_id, seed=8, **seeded).finish_all(5)
    assert Counter(run["attempts"] for run in again.summary["runs"]) == {1: 3, 2: 1, 3: 1}
    known = {machine["name"]: machine["runs"] for machine in again.summary["machines"]}
    assert (set(known), sum(known.values())) == ({"gpu1", "gpu2"}, 5)
    states = rows(sweep.folder / "server" / "server.db", "SELECT state FROM runs")
    assert states == [("finished",)] * 5
    assert len({entry.facts["parameters"]["seed"] for entry in sweep.entries()}) == 5


def test_a_sweep_that_lost_its_coordinator_and_disk_resumes_from_the_server(
    coordinated: CoordinatedSweep, sweep: RealSweep, standalone: dict[str, str]
) -> None:
    """1. The coordinator is killed: nothing of its nodes outlives the lease. 2. All folders are deleted."""
    sweep.env |= standalone
    del sweep.env["PARALLEL_HPO_BACKEND"]
    sweep.unlike = "there is no server.db in the coordinator's folder"
    coordinated.lead("held", "gpu1", count=3).wait_for(1)
    name = sweep.sweep_id
    sweep.kill()
    shutil.rmtree(sweep.directory)
    shutil.rmtree(coordinated.machines)
    sweep.go()
    again = coordinated.lead("held", "gpu2", resume=name, count=3).finish_all(3)
    runs = {machine["name"]: machine["runs"] for machine in again.summary["machines"]}
    assert runs == {"gpu1": 0, "gpu2": 3}
