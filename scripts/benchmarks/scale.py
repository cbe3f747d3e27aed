"""What thousands of agents need: the measured costs of requests, and a simulation that is fed with them.

costs on SQLite, on PostgreSQL ─▶ simulate(agents, servers) ─▶ tables
                                    └─ beside 1,000 agents on 4 real servers
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from scripts.benchmarks.agents import AGENTS, PACE_S, SERVERS, heartbeat_delays_s
from scripts.benchmarks.costs import Reading, measure
from scripts.benchmarks.queueing import Cost, Stream, simulate
from scripts.benchmarks.scene import Scene
from tests.postgresql import running, why_not

RUN_S: Final = 600.0
"""Mean duration of a run, in seconds; it logs a line each second."""
MOST_P99_S: Final = 0.1
"""Maximum 99th percentile of a heartbeat's answer, as in the row `agents`, in seconds."""
SIMULATED: Final = 60_000
"""Number of simulated requests, about."""
SEED: Final = 0
NUMBERS: Final = (1_000, 10_000, 100_000)
SHARES: Final = tuple(percent / 100 for percent in range(95, 0, -5))
"""Shares of a full load that are tried, until the heartbeats' answers are quick enough."""
DAY_S: Final = 86_400
KINDS: Final = {
    "beat": "a heartbeat while a run goes on",
    "issue": "a heartbeat that gets a run (`random`)",
    "start": "a run's start: all requests of `wandb.init`, and the first metrics",
    "line": "a history line and the summary; each 15th time with metrics",
    "lines": "15 history lines, the summary, and metrics",
    "end": "a run's end: its last lines, the summary, its files",
    "page": "a sweep's page: all of its runs",
    "update": "its update: the runs that changed",
}


@dataclass(frozen=True)
class Setting:
    """Differences between the simulated systems."""

    what: str
    sent: str = "lines"
    """The requests that have the lines: those of the kind `line` come each second."""
    disk_s: float = 0.0
    """Time that a commit waits for the disk, with the lock, in seconds."""
    beats_lock: bool = True
    """Whether heartbeats of running runs need the lock."""

    def streams(self, costs: Mapping[str, Reading]) -> list[Stream]:
        """Return what each agent sends."""
        seconds = 1.0 if self.sent == "line" else 15.0
        streams = [
            Stream("beat", self._cost(costs["beat"], self.beats_lock), PACE_S),
            Stream(self.sent, self._cost(costs[self.sent]), seconds),
        ]
        for kind in ("issue", "start", "end"):
            streams.append(Stream(kind, self._cost(costs[kind]), RUN_S, regular=False))
        return streams

    def _cost(self, reading: Reading, locks: bool = True) -> Cost:
        cost = reading.cost
        if not locks:
            core_s = cost.core_s + cost.locked_core_s
            return Cost(core_s=core_s, unlocked_s=cost.locked_s, writes=0)
        return replace(cost, locked_s=cost.locked_s + self.disk_s * cost.writes)


SETTINGS: Final = (
    Setting("lines each second (workers)", sent="line"),
    Setting("lines each 15 s (stock client)"),
    Setting("the same, each commit waits 1 ms for the disk", disk_s=0.001),
    Setting("the same without it, heartbeats without the lock", beats_lock=False),
)


@dataclass(frozen=True)
class Need:
    """What a number of agents needs, divided equally among databases."""

    setting: Setting
    agents: int
    writes_per_s: float
    held: float
    """Time with the lock relative to the time, if one database had them all."""
    databases: int
    servers: int
    p99_s: float


def largest(streams: Sequence[Stream], servers: int | None = None) -> int:
    """Return how many agents one database serves, with as many servers as help."""
    full = 1 / max(_held(streams), 0.0 if servers is None else _cores(streams) / servers)
    for share in SHARES:
        agents = max(1, int(full * share))
        enough = servers or 2 * math.ceil(agents * _cores(streams))
        if _p99_s(streams, agents, enough) <= MOST_P99_S:
            return agents
    return 0


def need(setting: Setting, costs: Mapping[str, Reading], agents: int, most: int) -> Need:
    """Return what agents need if a database serves at most `most`."""
    streams = setting.streams(costs)
    databases = math.ceil(agents / most)
    each = math.ceil(agents / databases)
    servers = math.ceil(each * _cores(streams))
    while (p99_s := _p99_s(streams, each, servers)) > MOST_P99_S:
        servers += 1
    return Need(
        setting,
        agents,
        writes_per_s=agents * sum(stream.cost.writes / stream.every_s for stream in streams),
        held=agents * _held(streams),
        databases=databases,
        servers=databases * servers,
        p99_s=p99_s,
    )


def _held(streams: Sequence[Stream]) -> float:
    """Return an agent's time with the lock relative to the time."""
    return sum(stream.cost.held_s / stream.every_s for stream in streams)


def _cores(streams: Sequence[Stream]) -> float:
    """Return an agent's time on servers' cores relative to the time."""
    return sum((each.cost.core_s + each.cost.locked_core_s) / each.every_s for each in streams)


def _p99_s(streams: Sequence[Stream], agents: int, servers: int) -> float:
    """Return the simulated heartbeats' 99th percentile, in seconds."""
    seconds = max(SIMULATED / (agents * sum(1 / each.every_s for each in streams)), 4 * PACE_S)
    answers_s = simulate(streams, agents=agents, servers=servers, seconds=seconds, chance=Random(SEED))
    return statistics.quantiles(answers_s["beat"], n=100)[-1]


def report() -> Iterator[str]:
    """Measure and simulate; yield the lines of the tables.

    Raises:
        RuntimeError: no PostgreSQL is installed here.
    """
    if reason := why_not():
        raise RuntimeError(reason)
    with Scene() as scene, scene.closing_servers():
        sqlite = measure(scene, str(scene.folder / "server.db"))
    with running() as postgresql, Scene() as scene, scene.closing_servers():
        costs = measure(scene, postgresql.fresh())
    yield from _table_of_costs(sqlite, costs)
    yield from _table_of_needs(sqlite, costs)
    with Scene() as scene:
        delays_s = heartbeat_delays_s(scene)
    yield from _table_of_check(costs, delays_s)


def _table_of_costs(sqlite: Mapping[str, Reading], postgresql: Mapping[str, Reading]) -> Iterator[str]:
    names = ("request", "SQLite: server, with lock", "written, kept")
    yield f"\n| {' | '.join((*names, 'PostgreSQL: server, with lock; database', 'its log'))} |"
    yield "|---|---|---|---|---|"
    for kind, what in KINDS.items():
        one, other = sqlite[kind], postgresql[kind]
        cells = (
            f"`{kind}` {what}",
            f"{_ms(one.core_s)}, {_ms(one.locked_core_s)} ms",
            f"{_kb(one.written)}, {_kb(one.stored)} KB",
            f"{_ms(other.core_s)}, {_ms(other.locked_core_s)}; {_ms(other.database_s)} ms",
            f"{_kb(other.written)} KB",
        )
        yield f"| {' | '.join(cells)} |"


def _table_of_needs(sqlite: Mapping[str, Reading], postgresql: Mapping[str, Reading]) -> Iterator[str]:
    yield "\n| agents | writes/s | growth a day | lock held | databases | servers | p99 |"
    yield "|---|---|---|---|---|---|---|"
    for setting in SETTINGS:
        streams = setting.streams(postgresql)
        # SQLite waits for the disk without the lock.
        most, alone = largest(streams), largest(replace(setting, disk_s=0.0).streams(sqlite), servers=1)
        yield f"| **{setting.what}**: {most} agents a database, {alone} on SQLite | | | | | | |"
        for agents in NUMBERS:
            # PostgreSQL is measured without autovacuum: old versions of rows stay.
            growth = agents * sum(sqlite[each.name].stored / each.every_s for each in streams)
            yield _line(need(setting, postgresql, agents, most), growth * DAY_S)


def _line(need: Need, growth: float) -> str:
    cells = (
        f"{need.agents:,}",
        f"{need.writes_per_s:,.0f}",
        f"{growth / 1e9:,.0f} GB",
        f"{need.held:.0%}",
        f"{need.databases}",
        f"{need.servers}",
        f"{_ms(need.p99_s)} ms",
    )
    return f"| {' | '.join(cells)} |"


def _table_of_check(costs: Mapping[str, Reading], delays_s: Sequence[float]) -> Iterator[str]:
    """Compare with real servers, which share this machine's cores with PostgreSQL and the clients."""
    cores, cost = os.cpu_count() or 1, costs["beat"].cost
    together = Cost(core_s=cost.core_s, locked_core_s=cost.held_s)
    yield f"\n| heartbeats of {AGENTS:,} agents | p50 | p90 | p99 |"
    yield "|---|---|---|---|"
    each = _of_beats(cost, servers=SERVERS)
    yield f"| simulated, {SERVERS} servers with a core each | {_percentiles(each)} |"
    shared = _of_beats(together, servers=1, cores=cores)
    yield f"| simulated, servers and PostgreSQL on {cores} cores | {_percentiles(shared)} |"
    yield f"| measured, with the clients on the same {cores} cores | {_percentiles(delays_s)} |"


def _of_beats(cost: Cost, *, servers: int, cores: int = 1) -> Sequence[float]:
    streams, seconds = [Stream("beat", cost, PACE_S)], SIMULATED * PACE_S / AGENTS
    chance = Random(SEED)
    return simulate(streams, agents=AGENTS, servers=servers, seconds=seconds, chance=chance, cores=cores)[
        "beat"
    ]


def _percentiles(times_s: Sequence[float]) -> str:
    cuts = statistics.quantiles(times_s, n=100)
    return " | ".join(f"{_ms(cuts[percent - 1])} ms" for percent in (50, 90, 99))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:{'.3g' if seconds < 1 else ',.0f'}}"


def _kb(number: float) -> str:
    return f"{number / 1000:.2g}"
