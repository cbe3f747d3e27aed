"""Engines that are none: one that notes what it is asked, for the tests of node managers."""

from __future__ import annotations

from dataclasses import dataclass, field

from parallel_hpo.cluster.base import ClusterMachine, NodeCommand, NodeTaskEnd


@dataclass
class NotedEngine:
    """Has these machines, and notes which were given a node."""

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
