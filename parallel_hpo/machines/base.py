"""What every engine of machines offers: which there are, a node started on one, and how nodes have ended.

    machines() ─▶ start(machine, command) ─▶ … ended() ─▶ stop() ─▶ close()

Whoever has one asks it from one thread. What says that an engine can't be had is a BackendError, a UsageError
or a MissingExtraError. `choose.chosen_engine` says which it is, `hosted.HostedEngine` is one in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FoundMachine:
    """A machine that an engine knows, whether a node has been started on it or not."""

    name: str
    """What people call it; no two of an engine have one name."""
    address: str
    """Where the engine finds it, in the engine's own words; another one after it was away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCommand:
    """What is run on a machine: by the interpreter of the engine's own worker there, in its environment.

    Masks of devices that the engine has set there are kept: the node sees exactly what it was given.
    """

    arguments: tuple[str, ...]
    """What follows the interpreter, as ("-m", "parallel_hpo", "join", …)."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the environment there; keys among them are in no command line and in no file."""
    grace_s: float
    """Seconds from the SIGTERM that ends it to the SIGKILL of all that is left of it."""


@dataclass(frozen=True, slots=True)
class NodeTaskEnd:
    """How the task ended that had started a node on a machine."""

    machine: FoundMachine
    returned: bool
    """Whether its own last word came, which proves that nothing of it runs; else this is only a hint."""
    exit_code: int | None = None
    """The node's own where it returned; -9 for one that was killed by SIGKILL."""
    error: str = ""
    """What the engine says, or the last lines of a node that failed; '' where all went well."""


class ClusterEngine(Protocol):
    """An engine in use."""

    @property
    def name(self) -> str:
        """What people call the engine: Ray, Dask, Slurm."""

    def machines(self) -> tuple[FoundMachine, ...]:
        """Return the machines that it has now, by name; later there may be others."""

    def start(self, machine: FoundMachine, command: NodeCommand) -> None:
        """Start a node there; returns at once, also where the machine has no room yet.

        A machine whose node has ended may be given another.
        """

    def ended(self) -> tuple[NodeTaskEnd, ...]:
        """Return what has ended since the last call, each once; never waits."""

    def stop(self) -> None:
        """End all nodes that it started, and wait for it: `grace_s` and 5 seconds at the most."""

    def close(self) -> None:
        """Leave the engine as it was found; `stop` comes first."""

    def own_address(self) -> str | None:
        """Return the address by which its machines reach this one; None where it can't tell."""
