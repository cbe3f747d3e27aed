"""Rows about sweeps on many machines: the overhead of a pool, thousands of agents, unequal machines."""

from __future__ import annotations

import json
import resource
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from scripts.benchmarks.agents import AGENTS, SERVERS, heartbeat_p99_ms
from scripts.benchmarks.figures import Row
from scripts.benchmarks.scene import EMPTY_SPACE, Journal, Process, Scene

MAINS: Final = "scripts.benchmarks.mains"
RUNS: Final = 200
WORKERS: Final = 2
MOST_ADDED_MS: Final = 10.0

PACES_S: Final = (0.3, 0.1)
PACED_RUNS: Final = 60
MOST_MAKESPAN: Final = 1.2
MOST_P99_MS: Final = 100.0


def added_wall_ms(scene: Scene) -> float:
    """Return the additional time of a run on a machine that has joined a pool, in ms."""
    alone, joined = _alone(scene), _joined(scene)
    return (_course_s(joined[0].journal) - _course_s(alone[0].journal)) * 1000 / RUNS


def added_core_ms(scene: Scene) -> float:
    """Return the additional processor time of all processes and the server, in ms."""
    alone, joined = _alone(scene), _joined(scene)
    return (joined[1] - alone[1]) * 1000 / RUNS


def makespan(scene: Scene) -> float:
    """Return the time of two machines with different speeds, relative to two that are never idle."""
    sweep, go = _create(scene, "pace", count=PACED_RUNS, workers=1), scene.folder / "go"
    machines = [
        scene.command("join", sweep, "--name", f"pace{pace_s}", BENCH_GO=str(go), BENCH_SLEEP_S=str(pace_s))
        for pace_s in PACES_S
    ]
    for machine in machines:
        machine.journal.wait_for("enter")
    began = time.monotonic()
    go.touch()
    for machine in machines:
        machine.finish()
    journals = [machine.journal for machine in machines]
    took_s = max(max(journal.times("leave")) for journal in journals) - began
    return took_s / (PACED_RUNS / sum(1 / _cycle_s(journal) for journal in journals))


def _alone(scene: Scene) -> tuple[Process, float]:
    """Run the sweep with `run`."""
    config = _config(scene, count=RUNS, workers=WORKERS)
    return _timed(scene, "run", str(config), f"{MAINS}:empty")


def _joined(scene: Scene) -> tuple[Process, float]:
    """Run the sweep on one machine that joins."""
    return _timed(scene, "join", _create(scene, "empty", count=RUNS, workers=WORKERS))


def _timed(scene: Scene, *words: str) -> tuple[Process, float]:
    """Run a command to its end; return it, and the processor time of it and the server, in seconds."""
    began_s = _core_s(scene)
    process = scene.command(*words)
    process.finish()
    return process, _core_s(scene) - began_s


def _core_s(scene: Scene) -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + scene.address.core_s()


def _create(scene: Scene, main: str, **section: Any) -> str:
    """Create a sweep that machines can join; return its id."""
    process = scene.command("run", str(_config(scene, **section)), f"{MAINS}:{main}", "--create", "--quiet")
    process.finish()
    return process.last_line()


def _config(scene: Scene, **section: Any) -> Path:
    own = {"directory": str(scene.folder / "sweeps"), "devices": "cpu", "sweep_configuration": EMPTY_SPACE}
    config = scene.folder / "config.json"
    config.write_text(json.dumps({"hpo": own | section}))
    return config


def _course_s(journal: Journal) -> float:
    """Return the time from the first run's start to the last one's end, in seconds."""
    return journal.times("leave")[-1] - journal.times("enter")[0]


def _cycle_s(journal: Journal) -> float:
    """Return the median time between the ends of two successive runs, in seconds."""
    return statistics.median(after - before for before, after in pairwise(journal.times("leave")))


ROWS: Final = (
    Row(
        "pool",
        f"what a pool adds to a run, of {RUNS} empty ones on a machine that joins, against `run`",
        "ms",
        added_wall_ms,
        value_goal=MOST_ADDED_MS,
        repeat=3,
    ),
    Row(
        "pool-core",
        "the same, in processor time of all processes and the server",
        "ms",
        added_core_ms,
        value_goal=MOST_ADDED_MS,
        repeat=3,
    ),
    Row(
        "agents",
        f"p99 of a heartbeat's answer, {AGENTS} agents at their own pace, {SERVERS} servers over PostgreSQL",
        "ms",
        heartbeat_p99_ms,
        value_goal=MOST_P99_MS,
        repeat=1,
    ),
    Row(
        "makespan",
        f"{PACED_RUNS} runs on machines that sleep {PACES_S[0]} and {PACES_S[1]} s a run, against no idling",
        "×",
        makespan,
        value_goal=MOST_MAKESPAN,
        repeat=3,
    ),
)
