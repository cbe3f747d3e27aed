"""What an engine's host and its owner tell each other, a line each.

owner ── ClusterChoice, then StartNode and StopNodes; the end says: stop, and go ─▶ host
      ◀─ HostReady or HostRefused, then HostNews as it happens ───────────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from parallel_hpo.cluster.base import ClusterMachine, NodeCommand, NodeTaskEnd
from parallel_hpo.config.tables import MachineEngine


@dataclass(frozen=True, slots=True)
class ClusterChoice:
    """An engine, and where it is."""

    engine: MachineEngine
    address: str | None = None
    """As its own client takes it; None: where that looks by itself."""
    count: int | Literal["auto"] = "auto"
    """Machines at the most."""
    security: str = field(default="", repr=False)
    """What lets a client of Dask in, pickled, in Base64; '' where nothing must."""


@dataclass(frozen=True, slots=True)
class HostReady:
    """The engine can be reached."""

    name: str
    own_address: str | None
    machines: tuple[ClusterMachine, ...]
    kind: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class HostRefused:
    """It can't: the name of the error's class, and its words."""

    error: str
    words: str
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class StartNode:
    """Start a node on a machine."""

    machine: ClusterMachine
    command: NodeCommand
    kind: Literal["start"] = "start"


@dataclass(frozen=True, slots=True)
class StopNodes:
    """End all nodes."""

    kind: Literal["stop"] = "stop"


@dataclass(frozen=True, slots=True)
class HostReport:
    """What is so now, and what has ended since the last news."""

    machines: tuple[ClusterMachine, ...]
    ended: tuple[NodeTaskEnd, ...]
    stopped: bool = False
    """The nodes were to end, and all that could be done for it has been."""
    kind: Literal["news"] = "news"


Order: TypeAlias = StartNode | StopNodes
Told: TypeAlias = HostReady | HostRefused | HostReport
