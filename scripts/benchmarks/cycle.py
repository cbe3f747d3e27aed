"""Rows about the time between runs: the gap, the whole cycle, many empty runs, a server far away."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from scripts.benchmarks.figures import Row
from scripts.benchmarks.scene import Journal, Process, Scene

FAR_S: Final = 0.05
"""Response delay of a server on another continent, in seconds."""
RUNS: Final = 20
"""Runs of one worker per measurement, which is the median of their cycles."""
STOCK_RUNS: Final = 4
"""Runs of a stock agent, which takes 5 s for each."""
MANY: Final = 200
MANY_STOCK: Final = 20
WORKERS: Final = 2


def gap(journal: Journal) -> float:
    """Return the median time between the end of `main` and the start of the next one, in seconds."""
    ends, begins = journal.times("leave"), journal.times("enter")[1:]
    return statistics.median(begin - end for end, begin in zip(ends, begins, strict=False))


def cycle(journal: Journal) -> float:
    """Return the median time between the starts of two successive `main`s, in seconds."""
    return statistics.median(after - before for before, after in pairwise(journal.times("enter")))


def _near(scene: Scene) -> Mapping[str, str]:
    return scene.server


def _far(scene: Scene) -> Mapping[str, str]:
    return scene.slow_server(FAR_S)


def _one_worker(scene: Scene, server: Mapping[str, str]) -> Process:
    sweep = scene.new_sweep()
    process = scene.optimize("empty", {"workers": 1, "count": RUNS}, sweep=sweep, server=server)
    process.finish()
    return process


def _one_agent(scene: Scene, server: Mapping[str, str]) -> Process:
    process = scene.stock("empty", scene.new_sweep(), STOCK_RUNS, server)
    process.finish()
    return process


def _one_loop(scene: Scene, server: Mapping[str, str]) -> Process:
    process = scene.bare("empty", RUNS, server)
    process.finish()
    return process


def many_ours(scene: Scene) -> float:
    """Return the duration of `optimize()` for many empty runs on two workers, in seconds."""
    process = scene.optimize("empty", {"workers": WORKERS, "count": MANY})
    process.finish()
    return process.journal.times("returned")[0] - process.journal.times("optimize")[0]


def many_bare(scene: Scene) -> float:
    """Return the duration of the same runs in plain loops in two processes, in seconds."""
    processes = scene.several(WORKERS, lambda: scene.bare("empty", MANY // WORKERS))
    return max(process.finish() for process in processes)


def many_stock(scene: Scene) -> float:
    """Return the time per run of two stock agents, in seconds."""
    sweep = scene.new_sweep()
    each = MANY_STOCK // WORKERS
    processes = scene.several(WORKERS, lambda: scene.stock("empty", sweep, each))
    return max(process.finish() for process in processes) / MANY_STOCK


ROWS: Final = (
    Row(
        "gap",
        "from one run's end to the next one's start on a worker",
        "s",
        lambda scene: gap(_one_worker(scene, _near(scene)).journal),
        "a stock wandb.agent on the same server",
        lambda scene: gap(_one_agent(scene, _near(scene)).journal),
        ratio_goal=1 / 15,
        repeat=3,
    ),
    Row(
        "cycle",
        "whole cycle of an empty run (init, 3 logs, finish)",
        "s",
        lambda scene: cycle(_one_worker(scene, _near(scene)).journal),
        "bare wandb.init … finish in one process",
        lambda scene: cycle(_one_loop(scene, _near(scene)).journal),
        ratio_goal=3,
    ),
    Row(
        "gap-far",
        f"the gap, with a server that answers after {FAR_S * 1000:.0f} ms",
        "s",
        lambda scene: gap(_one_worker(scene, _far(scene)).journal),
        "a stock wandb.agent on that server",
        lambda scene: gap(_one_agent(scene, _far(scene)).journal),
        repeat=2,
    ),
    Row(
        "cycle-far",
        f"the cycle, with a server that answers after {FAR_S * 1000:.0f} ms",
        "s",
        lambda scene: cycle(_one_worker(scene, _far(scene)).journal),
        "bare wandb.init … finish on that server",
        lambda scene: cycle(_one_loop(scene, _far(scene)).journal),
        repeat=3,
    ),
    Row(
        "many",
        f"{MANY} empty runs on {WORKERS} workers, from optimize() to its return",
        "s",
        many_ours,
        f"the same in {WORKERS} bare loops",
        many_bare,
        ratio_goal=3,
        repeat=3,
    ),
    Row(
        "many-stock",
        f"one of those {MANY} runs",
        "s",
        lambda scene: many_ours(scene) / MANY,
        f"one of {MANY_STOCK} runs of {WORKERS} stock agents",
        many_stock,
        ratio_goal=1 / 12,
        repeat=2,
    ),
)
