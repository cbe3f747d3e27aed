"""A soak test: empty runs for a long time, and the memory of each kind of process meanwhile."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psutil

from scripts.benchmarks.scene import Process, Scene

WORKERS: Final = 2
MINUTES: Final = 20.0
RUNS: Final = 5_000
POINTS: Final = 20
KINDS: Final = ("supervisor", "fork server", "worker", "server")
WARM: Final = 0.2
"""Fraction of the time in which caches fill; growth is measured after it."""


@dataclass(frozen=True)
class Point:
    """A measurement: resident memory in MB by kind of process.

    A worker's private pages (USS) grow without a leak, because it shares fewer with the fork server over
    time.
    """

    minutes: float
    runs: int
    memory_mb: dict[str, float]


def watch(scene: Scene, minutes: float = MINUTES, runs: int = RUNS) -> Iterator[Point]:
    """Yield measurements of a sweep for a minimum time and number of runs; then drain it."""
    began = time.monotonic()
    process = scene.optimize("empty", {"workers": WORKERS})
    for number in range(1, 1_000_000):
        time.sleep(max(0.0, began + number * minutes * 60 / POINTS - time.monotonic()))
        done = len(process.journal.times("leave"))
        yield Point((time.monotonic() - began) / 60, done, _memory_mb(process))
        if number >= POINTS and done >= runs:
            break
    process.popen.send_signal(signal.SIGUSR1)
    if (code := process.popen.wait(60)) != 75:
        raise RuntimeError(f"the drained sweep ended with exit code {code}")


def growth(curve: list[Point], kind: str) -> float:
    """Return the growth of a kind's memory in MB per 1,000 runs, after the warm-up."""
    warm = [point for point in curve if point.minutes >= WARM * curve[-1].minutes]
    runs = [float(point.runs) for point in warm]
    return statistics.linear_regression(runs, [point.memory_mb[kind] for point in warm]).slope * 1000


def _memory_mb(process: Process) -> dict[str, float]:
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    supervisor = psutil.Process(process.popen.pid)
    for one in (supervisor, *supervisor.children(recursive=True)):
        try:
            kind = _kind(one, supervisor)
            if kind:
                found[kind].append(one.memory_info().rss / 2**20)
        except psutil.NoSuchProcess:
            continue  # wandb-core, or a short-lived call
    return {kind: statistics.mean(figures) for kind, figures in found.items()}


def _kind(one: psutil.Process, supervisor: psutil.Process) -> str | None:
    if one == supervisor:
        return "supervisor"
    words = " ".join(one.cmdline())
    if "parallel_hpo.worker.forkserver" in words:
        return "fork server" if one.ppid() == supervisor.pid else "worker"
    return "server" if "parallel_hpo.server" in words else None
