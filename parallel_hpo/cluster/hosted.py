"""Selects the cluster engine of a sweep, and runs its client in a process of its own (`host.py`), so that the
owner never waits long for it.

owner ── ClusterChoice, then StartNode and StopNodes; stops when stdin ends ─▶ host
      ◀─ HostReady or HostRefused, then HostReport after each change ────────┘

Each message is one line of JSON.
"""

from __future__ import annotations

import base64
import pickle
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import IO, Any, Final, Literal, TypeAlias, cast

from parallel_hpo.cluster.base import ClusterMachine, NodeCommand, NodeTaskEnd, OutputTail, read_line, to_line
from parallel_hpo.cluster.node_process import hinted, time_to_end
from parallel_hpo.config.tables import MachineEngine, Machines
from parallel_hpo.core import errors
from parallel_hpo.core.errors import BackendError, ParallelHPOError, UsageError


@dataclass(frozen=True, slots=True)
class ClusterChoice:
    """An engine and its address."""

    engine: MachineEngine
    address: str | None = None
    """In its own client's form; None: the client's default."""
    count: int | Literal["auto"] = "auto"
    """Maximum number of machines."""
    security: str = field(default="", repr=False)
    """Credentials of a Dask client, pickled, in Base64; '' if none are needed."""


OF_JOBLIB: Final = {"DaskDistributedBackend": MachineEngine.DASK, "RayBackend": MachineEngine.RAY}
"""Classes of joblib's backends, by name: importing them would import the engines."""


def chosen_engine(machines: Machines | None) -> ClusterChoice | None:
    """Return the engine that finds the machines, or None.

    Must run in the thread in which joblib's backend was set. joblib is not imported just for that.
    """
    parallel = sys.modules.get("joblib.parallel")
    backend = parallel and parallel.get_active_backend()[0]
    engine = (machines and machines.engine) or OF_JOBLIB.get(type(backend).__name__)
    if engine is None:
        return None
    count = machines.count if machines else "auto"
    address = machines.address if machines else None
    if engine is MachineEngine.SLURM:
        return _slurm(address, count)
    if address is not None:
        return ClusterChoice(engine, address, count)
    if engine is MachineEngine.RAY:
        return ClusterChoice(engine, _address_of_ray(), count)
    return _with_client(getattr(backend, "client", None) or _default_client(), count)


def _slurm(address: str | None, count: int | Literal["auto"]) -> ClusterChoice:
    if address is not None:
        how = "srun's own variables (SLURM_PARTITION, SLURM_ACCOUNT, SLURM_TIMELIMIT, …) say where jobs go"
        raise UsageError(f"machines.address: Slurm has none, got {address!r}; {how}")
    return ClusterChoice(MachineEngine.SLURM, count=count)


def _with_client(client: Any, count: int | Literal["auto"]) -> ClusterChoice:
    """Return Dask with the address and security of the program's own client."""
    if client is None:
        return ClusterChoice(MachineEngine.DASK, count=count)
    address = client.scheduler.address
    if address.startswith("inproc:"):
        how = "make it with processes=True, or give machines.address"
        raise UsageError(
            f"Dask: the cluster at {address} is within this process, not on another machine: {how}"
        )
    encrypted = client.security.require_encryption
    security = base64.b64encode(pickle.dumps(client.security)).decode() if encrypted else ""
    return ClusterChoice(MachineEngine.DASK, address, count, security)


def _default_client() -> Any:
    """Return the program's own Dask client, if any, without importing Dask."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def _address_of_ray() -> str | None:
    """Return the address of the Ray cluster this program is connected to, if any, without importing Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    return str(ray.get_runtime_context().gcs_address)


@dataclass(frozen=True, slots=True)
class HostReady:
    """The engine can be reached."""

    name: str
    own_address: str | None
    machines: tuple[ClusterMachine, ...]
    kind: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class HostRefused:
    """The engine can't be reached: the error's class and message."""

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
    """The present machines, and the nodes that have ended since the last report."""

    machines: tuple[ClusterMachine, ...]
    ended: tuple[NodeTaskEnd, ...]
    stopped: bool = False
    """Whether StopNodes has been executed, as far as possible."""
    kind: Literal["news"] = "news"


Order: TypeAlias = StartNode | StopNodes
HostMessage: TypeAlias = HostReady | HostRefused | HostReport


HOST: Final = ("-m", "parallel_hpo.cluster.host")
READY_S: Final = 60.0
"""Timeout for importing a client and reaching its cluster, in seconds."""
ANSWER_S: Final = 2.0
"""Seconds to wait in addition to the engine's own timeout for its nodes."""
CLOSE_S: Final = 5.0
"""Timeout for the host's end in seconds; then it is killed."""


class HostedEngine:
    """A ClusterEngine in a child process, for one thread."""

    def __init__(self, choice: ClusterChoice) -> None:
        """Raises the engine's own errors, and BackendError if it does not answer."""
        pipe = subprocess.PIPE
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, *HOST], stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._output = OutputTail(cast(IO[bytes], self._process.stderr))
        self._received: SimpleQueue[HostMessage | None] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self._nodes: dict[ClusterMachine, NodeCommand] = {}
        self._ends: list[NodeTaskEnd] = []
        self._is_gone = False
        try:
            self._send(choice)
            ready = self._ready(choice)
        except BaseException:
            self._process.kill()
            self.close()
            raise
        self.name = ready.name
        self._machines = ready.machines
        self._own_address = ready.own_address

    def machines(self) -> tuple[ClusterMachine, ...]:
        self._take_all()
        return self._machines

    def start(self, machine: ClusterMachine, command: NodeCommand) -> None:
        self._nodes[machine] = command
        self._send(StartNode(machine, command))

    def ended(self) -> tuple[NodeTaskEnd, ...]:
        self._take_all()
        ends, self._ends = tuple(self._ends), []
        return ends

    def stop(self) -> None:
        self._send(StopNodes())
        until = time.monotonic() + time_to_end(self._nodes.values()) + ANSWER_S
        while not self._is_gone and (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                if self._take(self._received.get(timeout=left)):
                    return

    def close(self) -> None:
        with suppress(BrokenPipeError):
            cast(IO[bytes], self._process.stdin).close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def own_address(self) -> str | None:
        return self._own_address

    def _ready(self, choice: ClusterChoice) -> HostReady:
        """Wait until the engine is connected."""
        try:
            message = self._received.get(timeout=READY_S)
        except Empty:
            raise BackendError(f"{choice.engine}: its client has not answered for {READY_S:.0f} s") from None
        if isinstance(message, HostReady):
            return message
        if isinstance(message, HostRefused):
            kind: type[ParallelHPOError] = getattr(errors, message.error)
            raise kind(message.words)
        raise BackendError(f"{choice.engine}: its client has ended: {self._output.last_words()}")

    def _take_all(self) -> None:
        with suppress(Empty):
            while True:
                self._take(self._received.get_nowait())

    def _take(self, message: HostMessage | None) -> bool:
        """Take a message of the host, None for its end; return whether its nodes have been stopped."""
        if isinstance(message, HostReport):
            self._machines = message.machines
            self._add(message.ended)
            return message.stopped
        self._is_gone = True
        reason = f"{self.name}'s client has ended: {self._output.last_words()}"
        self._add(tuple(hinted(machine, reason) for machine in self._nodes))
        return False

    def _add(self, ends: tuple[NodeTaskEnd, ...]) -> None:
        for end in ends:
            self._nodes.pop(end.machine, None)
        self._ends += ends

    def _send(self, order: Any) -> None:
        pipe = cast(IO[bytes], self._process.stdin)
        with suppress(BrokenPipeError):  # it has ended, which the reader notices
            pipe.write(to_line(order).encode())
            pipe.flush()

    def _read(self) -> None:
        with cast(IO[bytes], self._process.stdout) as lines:
            for line in lines:
                self._received.put(read_line(cast(Any, HostMessage), line))
        self._received.put(None)
