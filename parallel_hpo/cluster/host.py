"""The process in which an engine's client lives, for the process that owns the engine.

A client may hang for as long as its cluster does, and Ray's ends the process that it is in when the cluster
is away for a minute: neither may hold up a sweep. And when the owner dies, this one still ends the nodes,
which Dask alone would not do. `talk` says what is told on stdin and stdout.
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
    HostReady,
    HostRefused,
    HostReport,
    Order,
    StopNodes,
    Told,
)
from parallel_hpo.cluster.node_process import hinted, said_by
from parallel_hpo.cluster.ray import RayEngine
from parallel_hpo.cluster.slurm import SlurmEngine
from parallel_hpo.config.tables import MachineEngine
from parallel_hpo.core.errors import ParallelHPOError

Answer = TypeVar("Answer")
LOOK_S: Final = 0.5
"""Between two questions to the engine how its nodes are."""


def main() -> None:
    """Serve the owner until its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the owner's, which then says what to do
    to_owner = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # what a client prints is nothing that the owner expects
    say = sayer(to_owner)
    try:
        engine = make(read_line(ClusterChoice, sys.stdin.buffer.readline()))
        say(HostReady(engine.name, engine.own_address(), engine.machines()))
    except ParallelHPOError as error:
        say(HostRefused(type(error).__name__, str(error)))
        return
    try:
        serve(engine, orders(sys.stdin.fileno()), say)
    finally:
        engine.stop()
        engine.close()


def sayer(to: TextIO) -> Callable[[Told], None]:
    """Return what tells the owner, who may have gone."""

    def say(told: Told) -> None:
        with suppress(OSError):
            to.write(to_line(told))
            to.flush()

    return say


def make(choice: ClusterChoice) -> ClusterEngine:
    """Return the engine itself."""
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
    """Yield what the owner tells until its end; None where for a while it told nothing."""
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


def serve(engine: ClusterEngine, told: Iterable[Order | None], say: Callable[[Told], None]) -> None:
    """Do what the owner tells, and tell it what has changed."""
    machines = engine.machines()
    nothing: tuple[NodeTaskEnd, ...] = ()
    for order in told:
        ended = _obey(engine, order)
        before, machines = machines, _ask(engine.machines, machines)
        ended += _ask(engine.ended, nothing)
        stopped = isinstance(order, StopNodes)
        if ended or stopped or machines != before:
            say(HostReport(machines, ended, stopped))


def _obey(engine: ClusterEngine, order: Order | None) -> tuple[NodeTaskEnd, ...]:
    """Do it; return the end of a node that could not be started."""
    if isinstance(order, StopNodes):
        _ask(engine.stop, None)
    elif order is not None:
        try:
            engine.start(order.machine, order.command)
        except Exception as error:  # noqa: BLE001 - whatever a client raises, the node has not been started
            return (hinted(order.machine, error),)
    return ()


def _ask(question: Callable[[], Answer], otherwise: Answer) -> Answer:
    """Ask an engine; what it can't answer now is asked again soon."""
    try:
        return question()
    except Exception as error:  # noqa: BLE001 - a cluster that is away is no news of its machines
        print(said_by(error), file=sys.stderr)
        return otherwise


if __name__ == "__main__":
    main()
