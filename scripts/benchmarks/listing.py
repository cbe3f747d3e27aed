"""Rows about lists of runs as the Public API requests them, and about concurrent heartbeats."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from scripts.benchmarks.asking import PROJECT, Address, Client, fill
from scripts.benchmarks.figures import Measure, Row
from scripts.benchmarks.scene import EMPTY_SPACE, Scene

FEW_RUNS: Final = 100
MANY_RUNS: Final = 10_000
ENTRIES: Final = 64
"""Entries of a run's configuration and of its summary; together they are 4 KB."""
PAGE: Final = 50
PAGES: Final = 20
LISTING_CLIENTS: Final = 10
PAUSE_S: Final = 0.5
LISTING_S: Final = 15.0
BEAT_EVERY_S: Final = 0.01

NEWEST: Final = "-created_at"
BEST: Final = "+summary_metrics.loss"
RUNS: Final = """query Runs(
  $project: String, $after: String, $order: String, $filters: JSONString, $first: Int
) { project(name: $project) { internalId runCount(filters: $filters) readOnly
    runs(filters: $filters, after: $after, first: $first, order: $order) {
      edges { node { projectId id tags name displayName sweepName state config group jobType commit readOnly
        createdAt heartbeatAt description notes systemMetrics summaryMetrics historyLineCount
        user { name username } historyKeys } cursor }
      pageInfo { endCursor hasNextPage } } } }"""


class Reader:
    """A client that pages through a sweep's runs."""

    def __init__(self, address: Address, sweep: str, order: str) -> None:
        self._client = Client(address)
        self._filters = json.dumps({"sweep": sweep})
        self._order = order

    def page(self, after: str | None = None) -> str | None:
        """Read a page; return the cursor of the next one."""
        wanted = {"project": PROJECT, "filters": self._filters, "order": self._order, "first": PAGE}
        runs = self._client.ask(RUNS, after=after, **wanted)["project"]["runs"]
        if not runs["edges"]:
            raise RuntimeError("a page without runs")
        info = runs["pageInfo"]
        return str(info["endCursor"]) if info["hasNextPage"] else None

    def read_for_a_while(self) -> int:
        """Read pages with pauses, and start again after the last one; return their number."""
        cursor, until, done = None, time.monotonic() + LISTING_S, 0
        while time.monotonic() < until:
            cursor = self.page(cursor)
            done += 1
            time.sleep(PAUSE_S)
        return done


def page_ms(order: str, runs: int, *, after: str | None = None) -> Measure:
    """Return a function that measures the time of a page for a single client, in ms."""

    def measure(scene: Scene) -> float:
        reader = Reader(scene.address, _filled(scene, runs), order)
        reader.page(after)
        return statistics.median([_timed_ms(reader, after) for _ in range(PAGES)])

    return measure


def walked_page_ms(order: str, runs: int) -> Measure:
    """Return a function that measures a client's mean time per page over all pages, in ms."""

    def measure(scene: Scene) -> float:
        reader = Reader(scene.address, _filled(scene, runs), order)
        began, cursor = time.monotonic(), reader.page()
        while cursor is not None:
            cursor = reader.page(cursor)
        return (time.monotonic() - began) * 1000 / (runs / PAGE)

    return measure


def beat_p99_ms(clients: int, order: str) -> Measure:
    """Return a function that measures heartbeats' 99th percentile while clients list runs, in ms."""

    def measure(scene: Scene) -> float:
        sweep = _filled(scene, MANY_RUNS)
        client = Client(scene.address)
        agent = client.new_agent(sweep)
        run = client.take(sweep, agent)
        waits = []
        with ProcessPoolExecutor(max(clients, 1)) as pool:
            pages = [pool.submit(_read_for_a_while, scene.address, sweep, order) for _ in range(clients)]
            until = time.monotonic() + LISTING_S
            while time.monotonic() < until:
                began = time.monotonic()
                client.beat(agent, run)
                waits.append((time.monotonic() - began) * 1000)
                time.sleep(BEAT_EVERY_S)
            if not all(done.result() for done in pages):
                raise RuntimeError("a client got no page")
        return statistics.quantiles(waits, n=100)[98]

    return measure


def _read_for_a_while(address: Address, sweep: str, order: str) -> int:
    return Reader(address, sweep, order).read_for_a_while()


def _timed_ms(reader: Reader, after: str | None) -> float:
    began = time.monotonic()
    reader.page(after)
    return (time.monotonic() - began) * 1000


def _filled(scene: Scene, runs: int) -> str:
    client = Client(scene.address)
    sweep = client.new_sweep(EMPTY_SPACE)
    client.perform(sweep, client.new_agent(sweep))
    fill(scene.address, sweep, _results(), runs - 1, _documents)
    return sweep


def _results() -> Iterator[tuple[dict[str, Any], float]]:
    chance = random.Random(0)
    while True:
        yield {"x": chance.random()}, chance.random()


def _documents(parameters: dict[str, Any], value: float) -> dict[str, Any]:
    config = {f"parameter_{i}": {"value": parameters["x"] * i} for i in range(ENTRIES)}
    summary = {f"metric_{i}": value * i for i in range(ENTRIES)} | {"loss": value}
    return {"config": json.dumps(config), "summary": json.dumps(summary)}


ROWS: Final = (
    Row(
        "page",
        f"a lone client's wait for the newest {PAGE} of {MANY_RUNS} runs of 4 KB",
        "ms",
        page_ms(NEWEST, MANY_RUNS),
        f"of {FEW_RUNS} runs",
        page_ms(NEWEST, FEW_RUNS),
        ratio_goal=2,
        value_goal=100,
        repeat=3,
    ),
    Row(
        "page-last",
        f"its wait for the oldest {PAGE}",
        "ms",
        page_ms(NEWEST, MANY_RUNS, after=str(MANY_RUNS - PAGE)),
        f"of {FEW_RUNS} runs",
        page_ms(NEWEST, FEW_RUNS, after=str(FEW_RUNS - PAGE)),
        ratio_goal=2,
        value_goal=100,
        repeat=3,
    ),
    Row(
        "page-best",
        f"its wait for the best {PAGE} by a metric of the summary",
        "ms",
        page_ms(BEST, MANY_RUNS),
        f"of {FEW_RUNS} runs",
        page_ms(BEST, FEW_RUNS),
        value_goal=300,
        repeat=3,
    ),
    Row(
        "page-walk",
        f"its wait for one of all {MANY_RUNS // PAGE} pages by that metric",
        "ms",
        walked_page_ms(BEST, MANY_RUNS),
        f"of {FEW_RUNS // PAGE} pages",
        walked_page_ms(BEST, FEW_RUNS),
        ratio_goal=2,
        value_goal=100,
        repeat=3,
    ),
    Row(
        "beat-p99",
        f"a heartbeat's p99 while {LISTING_CLIENTS} clients list the newest of {MANY_RUNS} runs of 4 KB",
        "ms",
        beat_p99_ms(LISTING_CLIENTS, NEWEST),
        "while none lists",
        beat_p99_ms(0, NEWEST),
        value_goal=50,
        repeat=3,
    ),
    Row(
        "beat-p99-best",
        "the same while they list by a metric, each from its first page again after its last",
        "ms",
        beat_p99_ms(LISTING_CLIENTS, BEST),
        value_goal=50,
        repeat=3,
    ),
)
