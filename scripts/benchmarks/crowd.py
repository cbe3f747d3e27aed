"""A supervisor's loop and ledger with simulated workers: crowd.py WORKERS RUNS.

    the real Loop, Ledger, Terminal ◀──pipes──▶ one process that simulates all workers

Prints the supervisor's processor time in seconds, and the growth of its memory in MB.
"""

from __future__ import annotations

import json
import os
import queue
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn, cast

import psutil

from parallel_hpo.core.child_spec import ChildSetup, Reaped
from parallel_hpo.core.messages import Drain, Lease, LeaseEnded, Proceed, Ready, Report, RunEnded, RunStarted
from parallel_hpo.core.notices import SweepOpened
from parallel_hpo.core.types import Outcome, RunId, SweepPath
from parallel_hpo.count.state import Pool
from parallel_hpo.devices.library import no_library
from parallel_hpo.devices.watch import Meter, Rapl
from parallel_hpo.display import Terminal
from parallel_hpo.processes.fork_server import Child
from parallel_hpo.processes.output import OutputPump
from parallel_hpo.processes.reaper import MemoryWatch
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.count import LocalCount
from parallel_hpo.session.decide.state import Limits, open_view
from parallel_hpo.session.loop import Loop
from parallel_hpo.session.measuring import LoopContext, StallDetector
from parallel_hpo.session.signals import CommandPipe, Control
from parallel_hpo.session.waiting import StopAware

PARAMETERS = {f"parameter_{number}": number / 7 for number in range(8)}


class Crowd:
    """A pool whose children are simulated by one process."""

    def __init__(self, workers: int) -> None:
        pairs = [Pipe() for _ in range(workers)]
        self._line, their_line = Pipe()
        if os.fork() == 0:
            for ours, _ in pairs:
                ours.close()
            play([theirs for _, theirs in pairs], their_line)
        for _, theirs in pairs:
            theirs.close()
        self._free = [ours for ours, _ in pairs]
        self._children: dict[int, Child] = {}
        self.orphan_fds: list[int] = []
        self.look_after_s: float | None = None

    @property
    def line(self) -> int:
        return self._line.fileno()

    def spawn(self, _spec: object) -> Child:
        number = len(self._children)
        output, output_end = os.pipe()
        os.close(output_end)
        child = Child(number, self._free[number], output, None)
        self._children[number] = child
        return child

    def collect(self) -> list[tuple[Reaped, Child]]:
        ended = []
        with suppress(EOFError):  # the last worker has left
            while self._line.poll():
                reaped = self._line.recv()
                ended.append((reaped, self._children[reaped.pid]))
        return ended


@dataclass
class Player:
    """A simulated worker: its messages in response to each order."""

    number: int
    left: int = 0
    runs: int = 0

    def hear(self, order: object) -> Iterator[Report]:
        match order:
            case Lease(count):
                self.left = count or 0
                yield self._start()
            case Proceed(run_id):
                self.left -= 1
                yield RunEnded(run_id, 1, outcome=Outcome.FINISHED, value=random.random())
                yield self._start() if self.left else LeaseEnded()

    def _start(self) -> Report:
        self.runs += 1
        return RunStarted(RunId(f"{self.number:03}{self.runs:05}"), PARAMETERS, 1)


def play(pipes: list[Connection], line: Connection) -> NoReturn:
    """Simulate all workers until the last one leaves."""
    players = {pipe: Player(number) for number, pipe in enumerate(pipes)}
    for pipe in pipes:
        pipe.send(Ready())
    while players:
        for pipe in cast(list[Connection], wait(list(players))):
            order = pipe.recv()
            if isinstance(order, Drain):
                line.send(Reaped(players.pop(pipe).number, 0))
                pipe.close()
                continue
            for report in players[pipe].hear(order):
                pipe.send(report)
    os._exit(0)


class NoServerCalls:
    """The part of ServerCalls that the loop uses."""

    def requeue_runs(self, _label: str, _keep: list[str]) -> None:
        return


class NoSpec:
    """The part of a worker's spec that the loop uses."""

    surroundings = ChildSetup({}, (), "")


class NoDevices:
    """The part of DeviceWatch that the loop uses."""

    look_at = None

    def look(self, _now: float) -> list[Any]:
        return []


def count_here(
    ledger: Ledger, workers: int, runs: int, control: Control, observer: Callable[[Any], None]
) -> LocalCount:
    """Return the count of a new sweep."""
    pool = Pool(
        is_local=False,
        count=runs,
        node_timeout_s=inf,
        has_coordinator=False,
        opened_at=time.time(),
        coordinator_seen_at=0.0,
    )
    return LocalCount(ledger, pool, (), workers=workers, now=time.time, control=control, observer=observer)


def run(workers: int, runs: int, folder: Path, observer: Callable[[Any], None]) -> float:
    """Run a sweep; return the processor time that it takes in this process."""
    crowd = Crowd(workers)
    pump = OutputPump(folder, lambda _slot, _text: None)
    pump.start()
    path = SweepPath("local", "bench", cast(Any, "sweep"))
    observer(SweepOpened(path, "", "local", runs, workers, (), str(folder), "loss", "minimize"))
    control = Control()
    with Ledger(folder / "ledger.db") as ledger, CommandPipe(folder) as command_pipe:
        tools = LoopContext(
            children=cast(Any, crowd),
            count=count_here(ledger, workers, runs, control, observer),
            server_calls=cast(Any, NoServerCalls()),
            pump=pump,
            control=control,
            command_pipe=command_pipe,
            waits=StopAware(control, grace_s=30),
            stall_detector=StallDetector(time.monotonic, observer, folder),
            memory=MemoryWatch(lambda _slot, _used_mb: None),
            failure_handler=cast(Any, None),  # no run fails
            observer=observer,
            make_spec=lambda _slot, _label: cast(Any, NoSpec()),
            devices=cast(Any, NoDevices()),
            meter=Meter({}, no_library(), Rapl()),
            owner_id="bench",
            clock=time.monotonic,
            jitter=random.random,
        )
        loop = Loop(open_view(Limits(), workers), tools, queue.SimpleQueue())
        began = time.process_time()
        loop.run()
        took = time.process_time() - began
    pump.close()
    return took


def main(workers: int, runs: int) -> None:
    """Print the figures of one sweep."""
    before = psutil.Process().memory_full_info().uss
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        with Terminal(nowhere) as terminal:
            cpu_s = run(workers, runs, Path(folder), terminal)
        grown = psutil.Process().memory_full_info().uss - before
        size = (Path(folder) / "ledger.db").stat().st_size
    print(json.dumps({"cpu_s": cpu_s, "grown_mb": grown / 2**20, "ledger_mb": size / 2**20}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
