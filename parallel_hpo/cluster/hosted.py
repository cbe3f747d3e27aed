"""What an engine's host and its owner tell each other, a line each.

owner ── ClusterChoice, then StartNode and StopNodes; the end says: stop, and go ─▶ host
      ◀─ HostReady or HostRefused, then HostNews as it happens ───────────────────┘

An engine as its owner has it: its client is in a process of its own; nothing here waits long for it.
"""

from __future__ import annotations

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
from parallel_hpo.config.tables import MachineEngine
from parallel_hpo.core import errors
from parallel_hpo.core.errors import BackendError, ParallelHPOError


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


HOST: Final = ("-m", "parallel_hpo.cluster.host")
READY_S: Final = 60.0
"""For a client to be imported, and to reach its cluster."""
ANSWER_S: Final = 2.0
"""On top of what the engine itself waits for its nodes' ends."""
CLOSE_S: Final = 5.0
"""For the host's own end; then it is killed."""


class HostedEngine:
    """A ClusterEngine in use; of one thread."""

    def __init__(self, choice: ClusterChoice) -> None:
        """Raises what the engine's own constructor does, and BackendError where it never answers."""
        pipe = subprocess.PIPE
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, *HOST], stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._output = OutputTail(cast(IO[bytes], self._process.stderr))
        self._told: SimpleQueue[Told | None] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._nodes: dict[ClusterMachine, NodeCommand] = {}
        self._ends: list[NodeTaskEnd] = []
        self._is_gone = False
        try:
            self._tell(choice)
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
        self._tell(StartNode(machine, command))

    def ended(self) -> tuple[NodeTaskEnd, ...]:
        self._take_all()
        ends, self._ends = tuple(self._ends), []
        return ends

    def stop(self) -> None:
        self._tell(StopNodes())
        until = time.monotonic() + time_to_end(self._nodes.values()) + ANSWER_S
        while not self._is_gone and (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                if self._take(self._told.get(timeout=left)):
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
        """Wait for the engine to be reached."""
        try:
            told = self._told.get(timeout=READY_S)
        except Empty:
            raise BackendError(f"{choice.engine}: its client has not answered for {READY_S:.0f} s") from None
        if isinstance(told, HostReady):
            return told
        if isinstance(told, HostRefused):
            kind: type[ParallelHPOError] = getattr(errors, told.error)
            raise kind(told.words)
        raise BackendError(f"{choice.engine}: its client has ended: {self._output.last_words()}")

    def _take_all(self) -> None:
        with suppress(Empty):
            while True:
                self._take(self._told.get_nowait())

    def _take(self, told: Told | None) -> bool:
        """Take what the host tells; return whether its nodes have been stopped."""
        if isinstance(told, HostReport):
            self._machines = told.machines
            self._add(told.ended)
            return told.stopped
        self._is_gone = True
        reason = f"{self.name}'s client has ended: {self._output.last_words()}"
        self._add(tuple(hinted(machine, reason) for machine in self._nodes))
        return False

    def _add(self, ends: tuple[NodeTaskEnd, ...]) -> None:
        for end in ends:
            self._nodes.pop(end.machine, None)
        self._ends += ends

    def _tell(self, order: Any) -> None:
        pipe = cast(IO[bytes], self._process.stdin)
        with suppress(BrokenPipeError):  # it has ended; the listener sees it
            pipe.write(to_line(order).encode())
            pipe.flush()

    def _listen(self) -> None:
        with cast(IO[bytes], self._process.stdout) as lines:
            for line in lines:
                self._told.put(read_line(cast(Any, Told), line))
        self._told.put(None)
