"""Thousands of agents: servers that share a PostgreSQL, and clients that send heartbeats at the agents' pace.

1,000 agents, one heartbeat in 5 s each ─▶ processes of clients ─▶ 4 servers ─▶ PostgreSQL

A heartbeat's time counts from when it was due, so a late answer also delays those after it.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from scripts.benchmarks.asking import Address, Client
from scripts.benchmarks.scene import EMPTY_SPACE, Scene
from tests.postgresql import running, why_not

AGENTS: Final = 1_000
SERVERS: Final = 4
PROCESSES: Final = 2
THREADS: Final = 24
"""Threads of each process, each with one connection and an equal share of the agents."""
PACE_S: Final = 5.0
ROUNDS: Final = 5
FIRST_S: Final = 1.0
"""Time until the first heartbeat is due, in seconds, so that all threads have started."""


@dataclass(frozen=True)
class Flock:
    """The agents of one thread, on one server."""

    address: Address
    sweep: str
    number: int
    behind_s: float
    """Offset of the first heartbeat within the interval, in seconds."""
    listed: tuple[tuple[str, str], ...] = ()
    """Each registered agent with its run."""


def heartbeat_p99_ms(scene: Scene) -> float:
    """Return the 99th percentile of the time from a heartbeat's due time to its answer, in ms."""
    return statistics.quantiles(heartbeat_delays_s(scene), n=100)[-1] * 1000


def heartbeat_delays_s(scene: Scene) -> list[float]:
    """Return the times from the heartbeats' due times to their answers, in seconds.

    Raises:
        RuntimeError: no PostgreSQL is installed here.
    """
    if reason := why_not():
        raise RuntimeError(reason)
    with running() as postgresql, scene.closing_servers():
        addresses = _servers(scene, postgresql.fresh())
        sweep = Client(addresses[0]).new_sweep(EMPTY_SPACE)
        with ProcessPoolExecutor(PROCESSES) as pool:
            flocks = [flock for some in pool.map(_register_all, _dealt(addresses, sweep)) for flock in some]
            dealt = [flocks[number::PROCESSES] for number in range(PROCESSES)]
            waits = [wait for some in pool.map(_beat_all, dealt) for wait in some]
    if len(waits) != AGENTS * ROUNDS:
        raise RuntimeError(f"{len(waits)} of {AGENTS * ROUNDS} heartbeats were answered")
    return waits


def _servers(scene: Scene, database: str) -> list[Address]:
    """Start the servers, which share the database and a folder with files and the key."""
    place = ("--database", database, "--files", str(scene.folder / "files"))
    said = [scene.another_server(*place) for _ in range(SERVERS)]
    return [Address(each["url"], each["api_key"], 0, Path(database)) for each in said]


def _dealt(addresses: list[Address], sweep: str) -> list[list[Flock]]:
    """Return the threads' agents for each process, with all heartbeats evenly spaced."""
    threads = PROCESSES * THREADS
    flocks = [
        Flock(
            addresses[thread % SERVERS], sweep, len(range(thread, AGENTS, threads)), thread * PACE_S / AGENTS
        )
        for thread in range(threads)
    ]
    return [flocks[number::PROCESSES] for number in range(PROCESSES)]


def _register_all(flocks: list[Flock]) -> list[Flock]:
    with ThreadPoolExecutor(len(flocks)) as threads:
        return list(threads.map(_register, flocks))


def _register(flock: Flock) -> Flock:
    """Register the agents, each with a running run."""
    client = Client(flock.address)
    agents = [client.new_agent(flock.sweep) for _ in range(flock.number)]
    return replace(flock, listed=tuple((agent, client.take(flock.sweep, agent)) for agent in agents))


def _beat_all(flocks: list[Flock]) -> list[float]:
    """Send the heartbeats of this process's agents; return the delay of each answer, in seconds."""
    began = time.monotonic() + FIRST_S
    with ThreadPoolExecutor(len(flocks)) as threads:
        return [wait for waits in threads.map(lambda flock: _beat(flock, began), flocks) for wait in waits]


def _beat(flock: Flock, began: float) -> list[float]:
    client, waits = Client(flock.address), []
    for beat in range(ROUNDS * flock.number):
        due = began + flock.behind_s + beat * PACE_S / flock.number
        time.sleep(max(0.0, due - time.monotonic()))
        client.beat(*flock.listed[beat % flock.number])
        waits.append(time.monotonic() - due)
    return waits
