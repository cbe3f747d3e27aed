"""A discrete-event simulation of agents, sweep servers, and the one writer of their database.

An agent sends requests at its own pace, whatever the answers take. A request that writes takes:

    a core of its server ─▶ the database's lock ─▶ a core again, then the database ─▶ its answer
    (HTTP, GraphQL)         (one for all servers)  (until the commit)
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Final

WARM: Final = 0.25
"""Share of the simulated time that doesn't count, as all queues are empty at first."""


@dataclass(frozen=True)
class Cost:
    """The time that a request takes, or several that follow one another, in seconds."""

    core_s: float = 0.0
    """Of its server's core, without the lock."""
    locked_core_s: float = 0.0
    """Of its server's core, with the lock."""
    locked_s: float = 0.0
    """Of the database, with the lock."""
    unlocked_s: float = 0.0
    """Of the database, without the lock."""
    writes: int = 1
    """Number of transactions that need the lock; each takes an equal share."""

    @property
    def held_s(self) -> float:
        """Time with the lock, if the server's core is free."""
        return self.locked_core_s + self.locked_s


@dataclass(frozen=True)
class Stream:
    """Requests of one kind, which each agent sends again and again."""

    name: str
    cost: Cost
    every_s: float
    """Mean interval, in seconds."""
    regular: bool = True
    """Whether all intervals are equal; else they are distributed exponentially."""


class _Resource:
    """What several processes use one after the other, in order of arrival."""

    def __init__(self, number: int = 1) -> None:
        self.free = number
        self.waiting: deque[_Process] = deque()


_Process = Iterator[float | _Resource]
"""Yields a resource to wait for it, and a number of seconds to let them pass."""


class _Simulation:
    """The clock and the events to come."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, _Process]] = []
        self._numbers = itertools.count()

    def start(self, process: _Process, after_s: float = 0.0) -> None:
        heappush(self._events, (self.now_s + after_s, next(self._numbers), process))

    def run(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, process = heappop(self._events)
            self._advance(process)

    def _advance(self, process: _Process) -> None:
        for wanted in process:
            if isinstance(wanted, float):
                self.start(process, wanted)
                return
            if not wanted.free:
                wanted.waiting.append(process)
                return
            wanted.free -= 1

    def release(self, resource: _Resource) -> None:
        if resource.waiting:
            self.start(resource.waiting.popleft())
        else:
            resource.free += 1


def simulate(
    streams: Sequence[Stream], *, agents: int, servers: int, seconds: float, chance: Random, cores: int = 1
) -> Mapping[str, Sequence[float]]:
    """Return the times until each stream's answers, in seconds, after the warm-up.

    The agents are divided equally among the servers, which have `cores` cores each.
    """
    world, lock = _Simulation(), _Resource()
    places = [_Resource(cores) for _ in range(servers)]
    answers_s: dict[str, list[float]] = {stream.name: [] for stream in streams}

    def use(core: _Resource, time_s: float) -> _Process:
        yield core
        yield time_s
        world.release(core)

    def request(stream: Stream, core: _Resource) -> _Process:
        began_s, cost, parts = world.now_s, stream.cost, max(stream.cost.writes, 1)
        for _ in range(parts):
            yield from use(core, cost.core_s / parts)
            yield cost.unlocked_s / parts
            if cost.writes:
                yield lock
                yield from use(core, cost.locked_core_s / parts)
                yield cost.locked_s / parts
                world.release(lock)
        if began_s >= seconds * WARM:
            answers_s[stream.name].append(world.now_s - began_s)

    def agent(stream: Stream, core: _Resource) -> _Process:
        while True:
            world.start(request(stream, core))
            yield stream.every_s if stream.regular else chance.expovariate(1 / stream.every_s)

    for number, stream in itertools.product(range(agents), streams):
        first_s = chance.random() * stream.every_s
        if not stream.regular:
            first_s = chance.expovariate(1 / stream.every_s)
        world.start(agent(stream, places[number % servers]), first_s)
    world.run(seconds)
    return answers_s
