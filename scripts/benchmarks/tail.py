"""Rows about runs of very different lengths on two workers, relative to the optimal order."""

from __future__ import annotations

import json
from typing import Final

from scripts.benchmarks.figures import Measure, Row
from scripts.benchmarks.scene import Scene

WORKERS: Final = 2
# fmt: off
FIGURES: Final = (
    0.368, 0.467, 0.295, 0.180, 0.256, 0.166, 0.386, 1.075, 0.248, 0.224, 0.544, 0.489,
    0.400, 0.175, 0.359, 0.642, 0.126, 0.255, 0.080, 0.131, 0.084, 0.305, 0.133, 0.457,
)
# fmt: on
SLEEPS_S: Final = tuple(10 * figure for figure in FIGURES)
"""Durations of the runs, log-normally distributed, from 0.8 to 10.75 s."""
BOUND_S: Final = max(sum(SLEEPS_S) / WORKERS, *SLEEPS_S)
GRID: Final = {
    "method": "grid",
    "metric": {"name": "loss"},
    "parameters": {"index": {"values": list(range(len(SLEEPS_S)))}},
}


def ours(scene: Scene) -> float:
    """Return the duration of `optimize()`, in seconds."""
    section = {"workers": WORKERS, "count": len(SLEEPS_S), "sweep_configuration": GRID}
    process = scene.optimize("sleep", section, BENCH_FIGURES=json.dumps(SLEEPS_S))
    process.finish()
    return process.journal.times("returned")[0] - process.journal.times("optimize")[0]


def peer(name: str) -> Measure:
    """Return a function that measures another library, whose runs only sleep, without wandb."""

    def measure(scene: Scene) -> float:
        return float(scene.script("peers.py", name, str(WORKERS), BENCH_FIGURES=json.dumps(SLEEPS_S)))

    return measure


def _row(name: str, what: str, measure: Measure, goal: float | None = None) -> Row:
    bound = f"the lower bound of {BOUND_S:.1f} s"
    return Row(name, what, "s", measure, bound, lambda _: BOUND_S, ratio_goal=goal, repeat=1)


_WHAT: Final = f"{len(SLEEPS_S)} runs that sleep, on {WORKERS} workers"
ROWS: Final = (
    _row("tail", f"{_WHAT}, from optimize() to its return, with wandb", ours, 1.15),
    _row("tail-joblib", f"{_WHAT}: joblib, without wandb", peer("joblib")),
    _row("tail-optuna", f"{_WHAT}: Optuna, processes sharing a study, without wandb", peer("optuna")),
    _row("tail-ray", f"{_WHAT}: Ray Tune, without wandb", peer("ray")),
)
