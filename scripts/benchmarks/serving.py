"""Rows about the embedded sweep server alone, with plain HTTP clients."""

from __future__ import annotations

import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from scripts.benchmarks.asking import Address, Client, fill
from scripts.benchmarks.figures import Measure, Row
from scripts.benchmarks.scene import EMPTY_SPACE, Scene

AGENTS: Final = 500
BEATING_S: Final = 4.0
FEW_RUNS: Final = 100
MANY_RUNS: Final = 10_000
LEAST_BEATS_PER_S: Final = 300
LEAST_RATE: Final = 0.8
"""Minimum rate of answers for a sweep with many runs, relative to a small one."""

POINTS: Final = 100_000
SOME_POINTS: Final = 200

FEW_RESULTS: Final = 100
MANY_RESULTS: Final = 1_000
ASKS: Final = 21
BAYES: Final = {
    "method": "bayes",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {
        "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1.0},
        "layers": {"min": 1, "max": 8},
        "dropout": {"min": 0.0, "max": 0.9},
        "optimizer": {"values": ["adam", "sgd", "rmsprop"]},
    },
}

WRITERS: Final = 8
LINES: Final = 20_000
LINES_AT_ONCE: Final = 500
LEAST_LINES_PER_S: Final = 10_000


def heartbeat_ms(number: int) -> Measure:
    """Return a function that measures the server's processor time for a heartbeat of a busy agent, in ms.

    There are AGENTS agents, and `number` other runs in the sweep.
    """

    def measure(scene: Scene) -> float:
        client = Client(scene.address)
        sweep = _new_random_sweep(client)
        fill(scene.address, sweep, random_results(), number - 1)
        agents = [client.new_agent(sweep) for _ in range(AGENTS)]
        listed = [(agent, client.take(sweep, agent)) for agent in agents]
        with ProcessPoolExecutor(2) as pool:
            began_s = scene.address.core_s()
            done = sum(pool.map(_beat_for_a_while, [scene.address] * 2, [listed[::2], listed[1::2]]))
            return (scene.address.core_s() - began_s) * 1000 / done

    return measure


def _new_random_sweep(client: Client) -> str:
    sweep = client.new_sweep(EMPTY_SPACE)
    client.perform(sweep, client.new_agent(sweep))
    return sweep


def random_results() -> Iterator[tuple[dict[str, Any], float]]:
    while True:
        yield {"x": random.random()}, random.random()


def _beat_for_a_while(address: Address, listed: list[tuple[str, str]]) -> int:
    client, began, done = Client(address), time.monotonic(), 0
    while time.monotonic() - began < BEATING_S:
        client.beat(*listed[done % len(listed)])
        done += 1
    return done


def bayes_ms(results: int) -> Measure:
    """Return a function that measures the time until an agent of a `bayes` sweep gets a run, in ms."""

    def measure(scene: Scene) -> float:
        client = Client(scene.address)
        sweep = client.new_sweep(BAYES)
        agent = client.new_agent(sweep)
        client.perform(sweep, agent)
        fill(scene.address, sweep, _results_of_a_training(), results - 1)
        client.perform(sweep, agent)  # makes the server load the filled-in runs
        return statistics.median([_timed_ms(lambda: client.perform(sweep, agent)) for _ in range(ASKS)])

    return measure


def _results_of_a_training() -> Iterator[tuple[dict[str, Any], float]]:
    chance = random.Random(0)
    while True:
        point: dict[str, Any] = {
            "lr": 10 ** chance.uniform(-5, 0),
            "layers": chance.randint(1, 8),
            "dropout": chance.uniform(0.0, 0.9),
            "optimizer": chance.choice(["adam", "sgd", "rmsprop"]),
        }
        loss = abs(point["layers"] - 4) / 4 + point["dropout"] + 0.1 * chance.random()
        yield point, loss + (point["optimizer"] != "adam")


def _timed_ms(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return (time.monotonic() - began) * 1000


def grid_ms(*, last: bool) -> Measure:
    """Return a function that measures the server's processor time for a grid's first or last run, in ms."""

    def measure(scene: Scene) -> float:
        client = Client(scene.address)
        sweep = client.new_sweep({"method": "grid", "parameters": {"x": {"values": list(range(POINTS))}}})
        agent = client.new_agent(sweep)
        client.perform(sweep, agent)
        if last:
            points = (({"x": x}, 1.0) for x in itertools.count(1))
            fill(scene.address, sweep, points, POINTS - SOME_POINTS - 2)
            client.perform(sweep, agent)  # makes the server load the filled-in runs
        began_s = scene.address.core_s()
        for _ in range(SOME_POINTS):
            client.perform(sweep, agent)
        took_ms = (scene.address.core_s() - began_s) * 1000 / SOME_POINTS
        if last and client.beat(agent) != [{"type": "exit"}]:
            raise RuntimeError("the grid did not end with its last point")
        return took_ms

    return measure


def line_us(scene: Scene) -> float:
    """Return the time for a history line from several concurrent clients, in µs; none may be lost."""
    client = Client(scene.address)
    names = [f"lines-{time.monotonic_ns()}-{i}" for i in range(WRITERS)]
    for name in names:
        client.new_run(name)
    began = time.monotonic()
    with ProcessPoolExecutor(WRITERS) as pool:
        list(pool.map(_send_lines, [scene.address] * WRITERS, names))
    took_s = time.monotonic() - began
    for name in names:
        if (stored := client.count_lines(name)) != LINES:
            raise RuntimeError(f"{stored} of {LINES} lines of {name} are stored")
    return took_s / (WRITERS * LINES) * 1e6


def _send_lines(address: Address, run: str) -> None:
    client = Client(address)
    for offset in range(0, LINES, LINES_AT_ONCE):
        steps = range(offset, offset + LINES_AT_ONCE)
        lines = [json.dumps({"_step": step, "loss": step / 7, "acc": 0.5}) for step in steps]
        client.stream(run, "wandb-history.jsonl", offset, lines)


ROWS: Final = (
    Row(
        "heartbeat",
        f"the server's processor time for a heartbeat, {AGENTS} agents, {MANY_RUNS} runs in the sweep",
        "ms",
        heartbeat_ms(MANY_RUNS),
        f"the same, {FEW_RUNS} runs in the sweep",
        heartbeat_ms(FEW_RUNS),
        ratio_goal=1 / LEAST_RATE,
        value_goal=1000 / LEAST_BEATS_PER_S,
        repeat=3,
    ),
    Row(
        "bayes",
        f"an agent's wait for its next run of a bayes sweep, and that run, after {MANY_RESULTS} results",
        "ms",
        bayes_ms(MANY_RESULTS),
        f"the same, after {FEW_RESULTS} results",
        bayes_ms(FEW_RESULTS),
        ratio_goal=4,
        value_goal=50,
        repeat=3,
    ),
    Row(
        "grid",
        f"the server's processor time for one of the last {SOME_POINTS} runs of a grid of {POINTS}",
        "ms",
        grid_ms(last=True),
        f"one of its first {SOME_POINTS}",
        grid_ms(last=False),
        repeat=3,
    ),
    Row(
        "history",
        f"a history line of {WRITERS} clients at once, stored; {WRITERS * LINES} lines, none lost",
        "µs",
        line_us,
        value_goal=1e6 / LEAST_LINES_PER_S,
        repeat=3,
    ),
)
