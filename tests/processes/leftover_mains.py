"""Mains that leave something behind, as users' do: `keep` does what the run's parameter says.

Imported by workers, so nothing of the tests is imported here.
"""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import joblib
import psutil
import wandb
import yaml

from tests.processes.mains import enter, journal

NUMBERS = [3, 4, 5]
KEPT: list[Any] = []
"""What a module holds on to for the next run in the same process."""


def keep() -> None:
    parameters = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text())
    case = parameters["case"]["value"]
    if case.startswith("child_"):
        CASES[case]()
        return
    below = {child.name() for child in psutil.Process().children()}
    run = enter(children=sorted(below - {"wandb-core", "wandb-symon"}))
    CASES[case]()
    run.log({"loss": float(run.config["round"])})


def with_pool(method: str) -> Callable[[], None]:
    def main() -> None:
        context = multiprocessing.get_context(method)
        journal("made", name=context.Lock()._semlock.name)  # type: ignore[attr-defined]
        with context.Pool(2) as pool:
            assert pool.map(math.factorial, NUMBERS) == [6, 24, 120]

    return main


def leave_pool() -> None:
    """Leave a pool open, as many do."""
    pool = multiprocessing.get_context("forkserver").Pool(2)
    assert pool.map(math.factorial, NUMBERS) == [6, 24, 120]


def leave_executor() -> None:
    executor = ProcessPoolExecutor(2)
    assert list(executor.map(math.factorial, NUMBERS)) == [6, 24, 120]


def use_joblib() -> None:
    parallel = joblib.Parallel(n_jobs=2)
    assert parallel(joblib.delayed(math.factorial)(number) for number in NUMBERS) == [6, 24, 120]


def leak_memory() -> None:
    journal("made", name=SharedMemory(create=True, size=1000).name)


def hold_pool() -> None:
    if not KEPT:
        KEPT.append(multiprocessing.get_context("forkserver").Pool(2))
    assert KEPT[0].map(math.factorial, NUMBERS) == [6, 24, 120]


def hold_memory() -> None:
    if not KEPT:
        KEPT.append(SharedMemory(create=True, size=1000))
    journal("made", name=KEPT[0].name)
    SharedMemory(name=KEPT[0].name).close()


def leave_server() -> None:
    if not KEPT:
        KEPT.append(subprocess.Popen(["sleep", "120"]))
    assert KEPT[0].poll() is None


def register() -> None:
    """Leave to the end of the process: a function, buffers of open files, a folder."""
    place = Path(os.environ["JOURNAL"]).parent
    run_id = os.environ["PARALLEL_HPO_RUN_ID"]
    atexit.register((place / f"{run_id}.called").touch)
    text = (place / f"{run_id}.txt").open("w")
    text.write(run_id)
    folder = tempfile.TemporaryDirectory()
    KEPT.extend([text, folder])
    journal("made", name=folder.name)


def train() -> None:
    with wandb.init() as run:
        run.log({"loss": 2.0})


def train_and_fail() -> None:
    wandb.init().log({"loss": 4.0})
    raise ValueError("no good")


def in_a_child(function: Callable[[], None]) -> Callable[[], None]:
    def main() -> None:
        journal("enter")
        process = multiprocessing.Process(target=function)
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError("a child has failed")

    return main


CASES: dict[str, Callable[[], None]] = {
    "pool_fork": with_pool("fork"),
    "pool_forkserver": with_pool("forkserver"),
    "leave_pool": leave_pool,
    "leave_executor": leave_executor,
    "joblib": use_joblib,
    "leak_memory": leak_memory,
    "hold_pool": hold_pool,
    "hold_memory": hold_memory,
    "leave_server": leave_server,
    "register": register,
    "child_trains": in_a_child(train),
    "child_fails": in_a_child(train_and_fail),
}
