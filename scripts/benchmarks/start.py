"""Rows about starting, restarting and stopping."""

from __future__ import annotations

import os
import signal
import time
from typing import Final

import psutil

from scripts.benchmarks.figures import Row
from scripts.benchmarks.scene import LIMIT_S, Scene, end_all

WORKERS: Final = 8


def all_inside_ours(scene: Scene) -> float:
    """Return the time from `optimize()` on an existing sweep until all workers are in `main`, in seconds."""
    sweep = scene.new_sweep()
    process = scene.optimize("enter", {"workers": WORKERS, "count": WORKERS}, sweep=sweep)
    last = process.journal.wait_for("enter", WORKERS)[-1]
    process.end(signal.SIGKILL)
    return last - process.journal.times("optimize")[0]


def all_inside_stock(scene: Scene) -> float:
    """Return the time from the start of as many agents' processes until all are in `main`, in seconds."""
    sweep = scene.new_sweep()
    processes = scene.several(WORKERS, lambda: scene.stock("enter", sweep, 1))
    last = max(process.journal.wait_for("enter")[-1] for process in processes)
    end_all(processes, signal.SIGKILL)
    return last - processes[0].began


def first_inside_ours(scene: Scene) -> float:
    """Return the time from `optimize()` until the first worker is in `main`, including our server's start."""
    process = scene.optimize("enter", {"workers": 2, "count": 2})
    first = process.journal.wait_for("enter")[0]
    process.end(signal.SIGKILL)
    return first - process.journal.times("optimize")[0]


def first_inside_stock(scene: Scene) -> float:
    """Return the time from the start of a stock agent's process until it is in `main`, in seconds."""
    process = scene.stock("enter", scene.new_sweep(), 1)
    first = process.journal.wait_for("enter")[0]
    process.end(signal.SIGKILL)
    return first - process.began


def inside_again(scene: Scene) -> float:
    """Return the time from a worker's SIGKILL until its run is in `main` again, in seconds."""
    process = scene.optimize("stay", {"workers": 2, "count": 2})
    process.journal.wait_for("open", 2)
    (pid, *_) = process.journal.by_process("open")
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    again = process.journal.wait_for("enter", 3)[-1]
    process.end(signal.SIGKILL)
    return again - killed


def all_gone(scene: Scene) -> float:
    """Return the time from SIGINT to the end of the sweep's last process, in seconds."""
    process = scene.optimize("stay", {"workers": 2, "count": 2})
    process.journal.wait_for("open", 2)
    everything = psutil.Process(process.popen.pid).children(recursive=True)
    asked = time.monotonic()
    process.popen.send_signal(signal.SIGINT)
    process.popen.wait(LIMIT_S)
    _, alive = psutil.wait_procs(everything, timeout=LIMIT_S)
    assert not alive
    return time.monotonic() - asked


ROWS: Final = (
    Row(
        "eight",
        f"from a sweep that exists to all of {WORKERS} workers inside main",
        "s",
        all_inside_ours,
        f"{WORKERS} stock agents started as processes",
        all_inside_stock,
        ratio_goal=0.5,
    ),
    Row(
        "first",
        "from optimize() to the first worker inside main, our server's start included",
        "s",
        first_inside_ours,
        "starting one stock agent on a running server",
        first_inside_stock,
        ratio_goal=1.2,
    ),
    Row(
        "again",
        "from a worker's SIGKILL to its run inside main again",
        "s",
        inside_again,
        "a stock agent, from its start to inside main",
        first_inside_stock,
        ratio_goal=0.5,
    ),
    Row("stop", "from SIGINT to everything gone, main cooperative", "s", all_gone, value_goal=1.5),
)
