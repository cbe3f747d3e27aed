"""What every engine of machines offers: which there are, a node started on one, and how nodes have ended.

    machines() ─▶ start(machine, command) ─▶ … ended() ─▶ stop() ─▶ close()

Whoever has one asks it from one thread. What says that an engine can't be had is a BackendError, a UsageError
or a MissingExtraError. `choose.chosen_engine` says which it is, `hosted.HostedEngine` is one in use.

By which names and addresses machines are known.

Machines of one host's name are told apart: the second is NAME-2, for as long as it is there. This machine is
reached from another by its address on the way there.

What processes of this room tell each other: one message a line, as JSON.

The output of a process: passed on, and its end kept, so that an error can say what came last.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Protocol, TypeVar

from parallel_hpo.core.pool_messages import as_json, read


@dataclass(frozen=True, slots=True)
class ClusterMachine:
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


HEAD_STDERR: Final = "PARALLEL_HPO_HEAD_STDERR"
"""Variable that names the head's stderr to guards: a node that has the same needs to be heard once only."""
STDERR: Final = 2


def open_file(descriptor: int) -> str:
    """Return what tells the file or terminal behind a descriptor from all others; '' where it is closed."""
    try:
        known = os.fstat(descriptor)
    except OSError:
        return ""
    return f"{socket.gethostname()}:{known.st_dev}:{known.st_ino}"


@dataclass(frozen=True, slots=True)
class NodeTaskEnd:
    """How the task ended that had started a node on a machine."""

    machine: ClusterMachine
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

    def machines(self) -> tuple[ClusterMachine, ...]:
        """Return the machines that it has now, by name; later there may be others."""

    def start(self, machine: ClusterMachine, command: NodeCommand) -> None:
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


def address_towards(host: str) -> str | None:
    """Return this machine's address on the way to a host; None where no way is known. Nothing is sent."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0])
    except OSError:
        return None


class MachineNames:
    """What the machines of one engine are called, by their addresses."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, found: Sequence[tuple[str, str]]) -> tuple[ClusterMachine, ...]:
        """Return machines of (address, host's name), in the order of their own names.

        A name is free again once its machine is gone: one that comes back may have another address.
        """
        there = {address for address, _ in found}
        self._names = {address: name for address, name in self._names.items() if address in there}
        machines = [self._machine(address, host) for address, host in found]
        return tuple(sorted(machines, key=lambda machine: machine.name))

    def _machine(self, address: str, host: str) -> ClusterMachine:
        if address not in self._names:
            taken = set(self._names.values())
            names = (f"{host}-{number}" if number > 1 else host for number in range(1, len(taken) + 2))
            self._names[address] = next(name for name in names if name not in taken)
        return ClusterMachine(self._names[address], address)


Told = TypeVar("Told")


def to_line(message: Any) -> str:
    """Return a message as a line, its end included."""
    return json.dumps(as_json(message)) + "\n"


def read_line(kind: type[Told], line: bytes | str) -> Told:
    """Return the message of that kind; ValueError where the line is none, or was cut short."""
    return read(kind, json.loads(line))


KEPT_BYTES: Final = 2000
"""Enough for an error's message, and few enough for any pipe."""
PATIENCE_S: Final = 1.0
"""For the last output, after the death of all that could write any."""


class OutputTail:
    """Reads until the end, in a thread."""

    def __init__(self, source: IO[bytes], passed_on_to: int | None = None) -> None:
        """`passed_on_to` is a file descriptor; None: nobody sees it."""
        self._source = source
        self._target = passed_on_to
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def last_words(self) -> str:
        """Return the end of it; called when nothing can come any more."""
        self._thread.join(PATIENCE_S)
        return self._kept.decode(errors="replace").strip()

    def _read(self) -> None:
        with self._source:
            while some := os.read(self._source.fileno(), 4096):
                self._kept = (self._kept + some)[-KEPT_BYTES:]
                self._pass_on(some)

    def _pass_on(self, some: bytes) -> None:
        try:
            _ = self._target is not None and os.write(self._target, some)
        except OSError:
            self._target = None  # nobody reads it any more; the writer must not stand still for that
