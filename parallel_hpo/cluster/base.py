"""The interface of cluster engines, and helpers that they share: names, addresses, JSON lines, output tails.

    machines() ─▶ start(machine, command) ─▶ … ended() ─▶ stop() ─▶ close()

An engine is used from one thread. If it is unavailable it raises BackendError, UsageError or
MissingExtraError. `hosted.chosen_engine` selects one, `hosted.HostedEngine` runs it in a process of its own.
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
    """A machine of an engine, with or without a node."""

    name: str
    """Displayed name, unique within the engine."""
    address: str
    """Address in the engine's own form; it may change when the machine comes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCommand:
    """The command of a node, run by the interpreter and in the environment of the engine's worker there.

    Device masks set by the engine are kept.
    """

    arguments: tuple[str, ...]
    """Arguments of the interpreter, as ("-m", "parallel_hpo", "join", …)."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables to add to the environment; secret keys among them are in no command line and no file."""
    grace_s: float
    """Seconds between SIGTERM and the SIGKILL of all that is left."""


COORDINATOR_STDERR: Final = "PARALLEL_HPO_HEAD_STDERR"
"""Variable with the id of the coordinator's stderr: a guard with the same stderr need not print there."""
STDERR: Final = 2


def open_file(descriptor: int) -> str:
    """Return a unique id of the file or terminal behind a descriptor; '' if it is closed."""
    try:
        known = os.fstat(descriptor)
    except OSError:
        return ""
    return f"{socket.gethostname()}:{known.st_dev}:{known.st_ino}"


@dataclass(frozen=True, slots=True)
class NodeTaskEnd:
    """The end of a task that ran a node."""

    machine: ClusterMachine
    returned: bool
    """Whether the guard reported the end, which proves that nothing of the node runs; else only a hint."""
    exit_code: int | None = None
    """The node's exit code if it returned; -9 after SIGKILL."""
    error: str = ""
    """The engine's error, or the last lines of a failed node; '' if all went well."""


class ClusterEngine(Protocol):
    """A connection to a cluster engine."""

    @property
    def name(self) -> str:
        """The engine's displayed name: Ray, Dask, Slurm."""

    def machines(self) -> tuple[ClusterMachine, ...]:
        """Return the present machines, by name."""

    def start(self, machine: ClusterMachine, command: NodeCommand) -> None:
        """Start a node on a machine without waiting, even if the machine is busy.

        A machine whose node has ended may get another.
        """

    def ended(self) -> tuple[NodeTaskEnd, ...]:
        """Return the tasks that have ended since the last call, without waiting."""

    def stop(self) -> None:
        """End all its nodes and wait for them, `grace_s` and 5 seconds at most."""

    def close(self) -> None:
        """Disconnect from the engine, after `stop`."""

    def own_address(self) -> str | None:
        """Return the address by which its machines reach this one; None if unknown."""


def address_towards(host: str) -> str | None:
    """Return this machine's address on the route to a host; None without a route. Nothing is sent."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None


class MachineNames:
    """Unique names of an engine's machines; the second machine of one host is NAME-2."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, found: Sequence[tuple[str, str]]) -> tuple[ClusterMachine, ...]:
        """Return machines for (address, host name) pairs, sorted by name.

        The name of a machine that is gone becomes free: it may come back with another address.
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


MessageT = TypeVar("MessageT")


def to_line(message: Any) -> str:
    """Return a message as one line of JSON with its line end."""
    return json.dumps(as_json(message)) + "\n"


def read_line(kind: type[MessageT], line: bytes | str) -> MessageT:
    """Return the message of that kind; ValueError if the line is not one, or is cut short."""
    return read(kind, json.loads(line))


KEPT_BYTES: Final = 2000
"""Size of the tail in bytes: enough for an error message, and fits into any pipe."""
LAST_OUTPUT_S: Final = 1.0
"""Timeout for the last output in seconds, after all writers have died."""


class OutputTail:
    """Reads a process's output in a thread, copies it, and keeps its tail for an error message."""

    def __init__(self, source: IO[bytes], passed_on_to: int | None = None) -> None:
        """`passed_on_to` is a file descriptor for the copy; None: no copy."""
        self._source = source
        self._target = passed_on_to
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def last_words(self) -> str:
        """Return the tail; call it after all writers have ended."""
        self._thread.join(LAST_OUTPUT_S)
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
            self._target = None  # it has no reader any more, which must not block the writer
