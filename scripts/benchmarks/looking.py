"""Rows about heartbeats while browsers show a sweep's page; the requests are those of real pages."""

from __future__ import annotations

import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Final

from scripts.benchmarks.asking import PROJECT, Address, Client, fill
from scripts.benchmarks.figures import Measure, Row
from scripts.benchmarks.scene import EMPTY_SPACE, Scene
from scripts.benchmarks.serving import random_results

TABS: Final = 5
RUNS: Final = 1000
GOING_ON: Final = 8
LOOKED_AT_S: Final = 15.0
BEAT_EVERY_S: Final = 0.01
LINES_EVERY_S: Final = 1.0
ROWS_EVERY_S: Final = 0.6
CHARTS_EVERY_S: Final = 2.0
MOST_WORSE: Final = 1.1
DATA: Final = f"/pages/data/local/{PROJECT}/sweeps"


def beat_p95_ms(tabs: int) -> Measure:
    """Return a function that measures heartbeats' 95th percentile with many open tabs, in ms."""

    def measure(scene: Scene) -> float:
        client = Client(scene.address)
        sweep = client.new_sweep(EMPTY_SPACE)
        client.perform(sweep, client.new_agent(sweep))
        fill(scene.address, sweep, random_results(), RUNS - 1)
        agent = client.new_agent(sweep)
        runs = [client.take(sweep, client.new_agent(sweep)) for _ in range(GOING_ON)]
        with ProcessPoolExecutor(2) as pool:
            others = [pool.submit(_log_for_a_while, scene.address, runs)]
            if tabs:
                others.append(pool.submit(_look_for_a_while, scene.address, sweep, runs, tabs))
            waits = _beat_for_a_while(client, agent)
            for each in others:
                each.result()
        client.stream(runs[0], "wandb-summary.json", 0, ['{"loss": 1}'], complete=True)
        return statistics.quantiles(waits, n=20)[18]

    return measure


def _beat_for_a_while(client: Client, agent: str) -> list[float]:
    waits, until = [], time.monotonic() + LOOKED_AT_S
    while (began := time.monotonic()) < until:
        client.beat(agent, "none")
        waits.append((time.monotonic() - began) * 1000)
        time.sleep(BEAT_EVERY_S)
    return waits


def _log_for_a_while(address: Address, runs: list[str]) -> None:
    client, until, step = Client(address), time.monotonic() + LOOKED_AT_S, 0
    while time.monotonic() < until:
        for run in runs:
            client.stream(
                run, "wandb-history.jsonl", step, [json.dumps({"_step": step, "loss": 1 / (step + 1)})]
            )
        step += 1
        time.sleep(LINES_EVERY_S)


def _look_for_a_while(address: Address, sweep: str, runs: list[str], tabs: int) -> None:
    with ThreadPoolExecutor(tabs) as pool:
        list(pool.map(lambda number: _look(Client(address), sweep, runs, number / tabs), range(tabs)))


def _look(client: Client, sweep: str, runs: list[str], share: float) -> None:
    """Send the requests of open pages; each tab was opened at another moment."""
    time.sleep(share * ROWS_EVERY_S)
    began, revision, charts_at = time.monotonic(), "", 0.0
    histories = f"{DATA}/{sweep}/histories?key=loss&x=step&points=300"
    client.get(histories)
    while (now := time.monotonic()) < began + LOOKED_AT_S - 2 * ROWS_EVERY_S:
        revision = client.get(f"{DATA}/{sweep}?since={revision}")["revision"]
        if now >= charts_at:
            charts_at = now + CHARTS_EVERY_S
            client.get(f"{histories}&runs={','.join(runs)}&seen={revision}")
            client.get(f"{DATA}/{sweep}/timeline?seen={revision}")
        time.sleep(ROWS_EVERY_S)


ROWS: Final = (
    Row(
        "tabs",
        f"a heartbeat's p95 while {TABS} pages of a sweep of {RUNS} runs are open, {GOING_ON} of which go on",
        "ms",
        beat_p95_ms(TABS),
        "while none is",
        beat_p95_ms(0),
        ratio_goal=MOST_WORSE,
        repeat=5,
    ),
)
