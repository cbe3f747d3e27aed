"""The `main`s of the rows, loaded by workers as `mains.py:NAME`; each writes its observations into the
journal.

`PART`: fraction of the device's memory that a run holds.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import psutil
import wandb

from parallel_hpo.worker.preload import RUNTIME_FILES
from scripts.gpu_rows.cuda import Cuda

JOURNAL: Final = "GPU_CHECK_JOURNAL"
PART: Final = "GPU_CHECK_PART"
FAULTY: Final = "GPU_CHECK_FAULTY"
BUSY_S: Final = 4.0
"""Duration of the load in seconds, long enough for energy counters and measurements."""
TOGETHER_S: Final = 60.0

_held: dict[str, int] = {}
"""Memory that this process holds; frameworks also keep allocated memory for the next run."""


def look() -> None:
    """Record the devices that CUDA shows."""
    with wandb.init() as run:
        _journal(uuids=Cuda().uuids(), fork_server_has_context=_has_context(os.getppid()))
        run.log({"loss": 0.0})


def meet() -> None:
    """Hold memory until another run holds some at the same time."""
    with wandb.init() as run:
        cuda = _holding()
        _journal(uuids=cuda.uuids())
        _wait_for_another()
        run.log({"loss": 0.0})


def die_once() -> None:
    """Hold memory and be killed in the first attempt; record the free memory in the second."""
    with wandb.init() as run:
        cuda = Cuda()
        cuda.open()
        free_mb, _ = cuda.memory_mb()
        _journal(free_mb=free_mb)
        if _attempt() == 1:
            _hold(cuda)
            os.kill(os.getpid(), signal.SIGKILL)
        run.log({"loss": 0.0})


def want_too_much() -> None:
    """Allocate more memory than the device has."""
    with wandb.init():
        _journal()
        cuda = Cuda()
        cuda.open()
        cuda.hold(2 * cuda.memory_mb()[1])


def fail_on_faulty() -> None:
    """Fail on one device, and finish on the others."""
    with wandb.init() as run:
        _journal(device=_device())
        if _device() == os.environ[FAULTY]:
            raise ValueError("this device is no good")
        time.sleep(0.5)  # the others must not be done before it has failed three times
        run.log({"loss": 0.0})


def pack() -> None:
    """Hold a part of the memory for a while; once, beside others, allocate more than is free."""
    with wandb.init() as run:
        cuda = _holding()
        _journal(uuids=cuda.uuids())
        fallen = Path(os.environ[JOURNAL]).with_suffix(".fallen")
        if len(_others()) >= 1 and not fallen.exists():
            fallen.touch()
            cuda.hold(2 * cuda.memory_mb()[1])
        time.sleep(1.0)
        run.log({"loss": 0.0})


def work() -> None:
    """Keep the device busy for a while."""
    with wandb.init() as run:
        cuda = _holding()
        (address,) = _held.values()
        _journal()
        until = time.monotonic() + BUSY_S
        while time.monotonic() < until:
            cuda.write(address, 1)
        run.log({"loss": 0.0})


def compute_with_torch() -> None:
    """Compute on the device with torch, which was imported before the worker was forked."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    with wandb.init() as run:
        product = torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
        _journal(sum=float(product.sum()), fork_server_has_context=_has_context(os.getppid()))
        run.log({"loss": 0.0})


def _has_context(pid: int) -> bool:
    """Return whether a process has files open that only a CUDA context needs, and NVML doesn't."""
    links = (str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir())
    return any(file in RUNTIME_FILES for file in links)


def _holding() -> Cuda:
    cuda = Cuda()
    cuda.open()
    _hold(cuda)
    return cuda


def _hold(cuda: Cuda) -> None:
    if "buffer" not in _held:
        _held["buffer"] = cuda.hold(float(os.environ[PART]) * cuda.memory_mb()[1])


def _wait_for_another() -> None:
    deadline = time.monotonic() + TOGETHER_S
    while not _others() and time.monotonic() < deadline:
        time.sleep(0.05)


def _others() -> list[int]:
    """Return the living processes of other runs."""
    lines = Path(os.environ[JOURNAL]).read_text().splitlines()
    pids = {int(json.loads(line)["pid"]) for line in lines} - {os.getpid()}
    return sorted(pid for pid in pids if psutil.pid_exists(pid))


def _journal(**facts: Any) -> None:
    """Add a line to the journal: the run and its attempt, the process, and the other running runs."""
    path = Path(os.environ[JOURNAL])
    path.touch()
    assert wandb.run is not None
    line = {
        "run": wandb.run.id,
        "attempt": _attempt(),
        "pid": os.getpid(),
        "device": _device(),
        "others": _others(),
        **facts,
    }
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _attempt() -> int:
    return int(os.environ["PARALLEL_HPO_ATTEMPT"])


def _device() -> str:
    return os.environ["PARALLEL_HPO_DEVICE"]
