"""Commands to run as nodes, waits for an engine's reports on them, and a fake engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from parallel_hpo.cluster.base import ClusterEngine, ClusterMachine, NodeCommand, NodeTaskEnd
from tests.processes.conftest import comes

ROOT: Final = Path(__file__).parents[2]
DEADLINE_S: Final = 60.0
"""Far beyond what anything here takes."""
GRACE_S: Final = 20.0
NODE: Final = """
import json, os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(76))
told = {"pid": os.getpid(), "environment": dict(os.environ)}
Path(os.environ["TOLD"] + ".new").write_text(json.dumps(told))
os.rename(os.environ["TOLD"] + ".new", os.environ["TOLD"])
while not os.path.exists(os.environ["TOLD"] + ".go"):
    time.sleep(0.01)
"""
"""Program that reports its process, and runs until it may or must end."""
DRIVER: Final = """
import sys, time
from pathlib import Path
from parallel_hpo.config.tables import MachineEngine
from parallel_hpo.cluster.hosted import ClusterChoice, HostedEngine
from tests.cluster.nodes import HeldNode
kind, address, told = sys.argv[1:]
engine = HostedEngine(ClusterChoice(MachineEngine(kind), address or None, count=1))
engine.start(engine.machines()[0], HeldNode(Path(told)).command)
time.sleep(600)
"""


@dataclass(frozen=True)
class HeldNode:
    """A node that ends when it is released."""

    told: Path

    @property
    def command(self) -> NodeCommand:
        return NodeCommand(arguments=("-c", NODE), variables={"TOLD": str(self.told)}, grace_s=GRACE_S)

    def facts(self) -> Any:
        """Wait until it has begun; return its report."""
        assert comes(self.told.exists)
        return json.loads(self.told.read_text())

    def process(self) -> psutil.Process:
        return psutil.Process(self.facts()["pid"])

    def let_go(self) -> None:
        Path(f"{self.told}.go").touch()


def expect_nothing_left_of_a_killed_driver(
    node: HeldNode, engine: str, address: str = "", env: Mapping[str, str] = os.environ
) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, engine, address, str(node.told)], cwd=ROOT, env=env
    )
    process = node.process()
    driver.kill()
    driver.wait()
    assert comes(lambda: not process.is_running())


def next_end(engine: ClusterEngine) -> NodeTaskEnd:
    """Wait for an engine's report on one node."""
    return next_ends(engine, 1)[0]


def next_ends(engine: ClusterEngine, number: int) -> list[NodeTaskEnd]:
    """Wait for an engine's reports on `number` nodes."""
    ends: list[NodeTaskEnd] = []

    def have_come() -> bool:
        ends.extend(engine.ended())
        return len(ends) >= number

    assert comes(have_come)
    return ends


def begun(engine: ClusterEngine, folder: Path) -> dict[ClusterMachine, HeldNode]:
    """Start a node on each machine."""
    made = {machine: HeldNode(folder / machine.name) for machine in engine.machines()}
    for machine, node in made.items():
        engine.start(machine, node.command)
    return made


def named(engine: ClusterEngine, name: str) -> ClusterMachine:
    return next(machine for machine in engine.machines() if machine.name == name)


@dataclass
class NotedEngine:
    """An engine with these machines, which records the nodes that it starts."""

    found: list[ClusterMachine]
    name: str = "Noted"
    started: list[tuple[str, NodeCommand]] = field(default_factory=list)
    over: list[NodeTaskEnd] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    fails: bool = False

    def machines(self) -> tuple[ClusterMachine, ...]:
        if self.fails:
            raise ZeroDivisionError("its scheduler is away")
        return tuple(self.found)

    def start(self, machine: ClusterMachine, command: NodeCommand) -> None:
        self.started.append((machine.name, command))

    def ended(self) -> tuple[NodeTaskEnd, ...]:
        told, self.over = tuple(self.over), []
        return told

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")

    def own_address(self) -> str | None:
        return "10.0.0.1"
