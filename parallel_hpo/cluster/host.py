"""The process of an engine's client, so that the coordinator (its owner) never depends on the client.

A client may hang as long as its cluster does, and Ray's exits its process when the cluster is away for a
minute. When the owner dies, this process still ends the nodes, which Dask alone would not do. The messages on
stdin and stdout are in `hosted.py`.
"""

from __future__ import annotations

import base64
import os
import pickle
import select
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, TextIO, TypeVar, assert_never, cast

from parallel_hpo.cluster.base import ClusterEngine, NodeTaskEnd, read_line, to_line
from parallel_hpo.cluster.dask import DaskEngine
from parallel_hpo.cluster.hosted import (
    ClusterChoice,
    HostMessage,
    HostReady,
    HostRefused,
    HostReport,
    Order,
    StopNodes,
)
from parallel_hpo.cluster.node_process import error_text, hinted
from parallel_hpo.cluster.ray import RayEngine
from parallel_hpo.cluster.slurm import SlurmEngine
from parallel_hpo.config.tables import MachineEngine
from parallel_hpo.core.errors import ParallelHPOError

Answer = TypeVar("Answer")
LOOK_S: Final = 0.5
"""Interval between checks of the engine's nodes, in seconds."""


def main() -> None:
    """Serve the owner until its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner handles Ctrl-C
    to_owner = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a client's output must not mix with messages
    send = sender(to_owner)
    try:
        engine = make(read_line(ClusterChoice, sys.stdin.buffer.readline()))
        send(HostReady(engine.name, engine.own_address(), engine.machines()))
    except ParallelHPOError as error:
        send(HostRefused(type(error).__name__, str(error)))
        return
    try:
        serve(engine, orders(sys.stdin.fileno()), send)
    finally:
        engine.stop()
        engine.close()


def sender(to: TextIO) -> Callable[[HostMessage], None]:
    """Return a function that sends a message to the owner, who may be gone."""

    def send(message: HostMessage) -> None:
        with suppress(OSError):
            to.write(to_line(message))
            to.flush()

    return send


def make(choice: ClusterChoice) -> ClusterEngine:
    """Connect to the chosen engine."""
    match choice.engine:
        case MachineEngine.SLURM:
            return SlurmEngine(choice.count, os.environ)
        case MachineEngine.RAY:
            return RayEngine(choice.address)
        case MachineEngine.DASK:
            security = pickle.loads(base64.b64decode(choice.security)) if choice.security else None
            return DaskEngine(choice.address, security)
        case _:
            assert_never(choice.engine)


def orders(source: int) -> Iterator[Order | None]:
    """Yield the owner's orders until its end, and None after each LOOK_S without one."""
    rest = b""
    while True:
        if not select.select([source], [], [], LOOK_S)[0]:
            yield None
            continue
        some = os.read(source, 65536)
        if not some:
            return
        *lines, rest = (rest + some).split(b"\n")
        for line in lines:
            yield read_line(cast(Any, Order), line)


def serve(engine: ClusterEngine, orders: Iterable[Order | None], send: Callable[[HostMessage], None]) -> None:
    """Execute the owner's orders, and report changes."""
    machines = engine.machines()
    nothing: tuple[NodeTaskEnd, ...] = ()
    for order in orders:
        ended = _execute(engine, order)
        before, machines = machines, _ask(engine.machines, machines)
        ended += _ask(engine.ended, nothing)
        stopped = isinstance(order, StopNodes)
        if ended or stopped or machines != before:
            send(HostReport(machines, ended, stopped))


def _execute(engine: ClusterEngine, order: Order | None) -> tuple[NodeTaskEnd, ...]:
    """Execute an order; return the end of a node that could not be started."""
    if isinstance(order, StopNodes):
        _ask(engine.stop, None)
    elif order is not None:
        try:
            engine.start(order.machine, order.command)
        except Exception as error:  # noqa: BLE001 - clients raise anything; the node has not been started
            return (hinted(order.machine, error),)
    return ()


def _ask(question: Callable[[], Answer], otherwise: Answer) -> Answer:
    """Ask an engine; return `otherwise` if it can't answer now."""
    try:
        return question()
    except Exception as error:  # noqa: BLE001 - clients raise anything while their cluster is away
        print(error_text(error), file=sys.stderr)
        return otherwise


if __name__ == "__main__":
    main()
