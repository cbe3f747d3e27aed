"""Rows about the memory of one worker as PSS, in which shared pages are divided among their processes."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Final

import psutil

from scripts.benchmarks.figures import Row
from scripts.benchmarks.scene import LIMIT_S, Process, Scene, end_all

WORKERS: Final = 8
SETTLE_S: Final = 2.0
"""Wait in seconds, long after an agent's first heartbeat; then nothing changes in a paused sweep."""
RUNS_WORKER: Final = ("parallel_hpo.worker.forkserver", "stock.py")
"""Parts of the command lines of workers and stock agents."""


def pss_mb(pid: int) -> float:
    """Return the PSS of one process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (kilobytes,) = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    return kilobytes / 1024


def inside_ours(scene: Scene) -> float:
    """Return the PSS of a worker in `main` after `wandb.init`."""
    process = scene.optimize("stay", {"workers": WORKERS, "count": WORKERS})
    process.journal.wait_for("open", WORKERS)
    figure = _mean([pss_mb(pid) for pid in process.journal.by_process("open")])
    process.end(signal.SIGKILL)
    return figure


def inside_stock(scene: Scene) -> float:
    """Return the PSS of a stock agent's process at the same point."""
    sweep = scene.new_sweep()
    processes = scene.several(WORKERS, lambda: scene.stock("stay", sweep, 1))
    for process in processes:
        process.journal.wait_for("open")
    figure = _mean([pss_mb(process.popen.pid) for process in processes])
    end_all(processes, signal.SIGKILL)
    return figure


def idle_ours(scene: Scene) -> float:
    """Return the PSS of a worker whose agent waits for a paused sweep."""
    sweep = scene.new_sweep()
    scene.pause(sweep)
    process = scene.optimize("stay", {"workers": WORKERS, "count": WORKERS}, sweep=sweep)
    figure = _mean([pss_mb(worker.pid) for worker in _wait_for_cores(process, WORKERS)])
    process.end(signal.SIGKILL)
    return figure


def idle_stock(scene: Scene) -> float:
    """Return the PSS of a stock agent's process that waits for a paused sweep."""
    sweep = scene.new_sweep()
    scene.pause(sweep)
    processes = scene.several(WORKERS, lambda: scene.stock("stay", sweep, 1))
    for process in processes:
        _wait_for_cores(process, 1)
    figure = _mean([pss_mb(process.popen.pid) for process in processes])
    end_all(processes, signal.SIGKILL)
    return figure


def _wait_for_cores(process: Process, number: int) -> list[psutil.Process]:
    """Wait until `number` agents below a process have their wandb-core, plus SETTLE_S; return them."""
    deadline = time.monotonic() + LIMIT_S
    top = psutil.Process(process.popen.pid)
    while len(owners := _owners_of_cores(top)) < number:
        if time.monotonic() > deadline:
            raise TimeoutError("no agent got its wandb-core")
        time.sleep(0.05)
    time.sleep(SETTLE_S)
    return owners


def _owners_of_cores(top: psutil.Process) -> list[psutil.Process]:
    cores = [child for child in top.children(recursive=True) if _name(child) == "wandb-core"]
    owners = {parent for core in cores if (parent := core.parent()) is not None}
    return [owner for owner in owners if any(word in " ".join(owner.cmdline()) for word in RUNS_WORKER)]


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _mean(figures: list[float]) -> float:
    return sum(figures) / len(figures)


ROWS: Final = (
    Row(
        "idle",
        f"PSS of each of {WORKERS} workers whose agent waits, without wandb-core",
        "MB",
        idle_ours,
        f"each of {WORKERS} stock agents' processes that wait",
        idle_stock,
        ratio_goal=1 / 3,
        repeat=2,
    ),
    Row(
        "inside",
        f"PSS of each of {WORKERS} workers inside main after wandb.init, without wandb-core",
        "MB",
        inside_ours,
        f"each of {WORKERS} stock agents' processes there",
        inside_stock,
        ratio_goal=0.5,
        repeat=2,
    ),
)
