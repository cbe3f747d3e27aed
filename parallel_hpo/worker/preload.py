"""Imports modules in the fork server for all workers, and checks that forks can use them."""

from __future__ import annotations

import importlib
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from parallel_hpo.core.child_spec import Preload, Preloaded

RUNTIME_FILES: Final = ("/dev/nvidia-uvm", "/dev/kfd")
"""Files that CUDA and ROCm open when they are initialised, but management libraries don't."""
SETTLE_S: Final = 0.2
"""Time in seconds for a module's short-lived threads to end."""


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of this process that its forks don't have."""

    python: frozenset[str]
    native: int
    """Threads of native code, without OpenBLAS's, which ends them before a fork and starts new ones after
    it."""

    @classmethod
    def now(cls) -> Threads:
        """Return the present threads."""
        python = [thread.name for thread in threading.enumerate()]
        native = psutil.Process().num_threads() - len(python)
        return cls(frozenset(python), native - _threads_of_openblas() if native > 0 else 0)

    def words_since(self, before: Threads) -> str:
        """Return in words which threads are new, or ''."""
        names = sorted(self.python - before.python)
        native = self.native - before.native
        return ", ".join([*names, f"{native} of native code"] if native > 0 else names)


def wait_for_threads_since(before: Threads) -> str:
    """Return in words which threads are new, after waiting for short-lived ones; or ''."""
    deadline = time.monotonic() + SETTLE_S
    while (words := Threads.now().words_since(before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return words


def _threads_of_openblas() -> int:
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return 0
    pools = [pool for pool in threadpool_info() if pool["internal_api"] == "openblas"]
    return sum(pool["num_threads"] - 1 for pool in pools if pool["threading_layer"] == "pthreads")


def preload(order: Preload) -> Preloaded:
    """Import all; return what failed, with the module's traceback."""
    for name in order.ours:
        if error := _import(name):
            return Preloaded(error)
    if order.ours:
        _prepare()  # before user code holds references to wandb's functions
    if not order.users:
        return Preloaded()
    sys.path[:] = order.sys_path or sys.path
    before = Threads.now()
    for name in order.users:
        if error := _import(name) or _runtime_problem(name):
            return Preloaded(error, of_users=True)
        if started := wait_for_threads_since(before):
            return Preloaded(_on_threads(name, started), unfit=name)
    return Preloaded()


def _prepare() -> None:
    from parallel_hpo.worker.worker import prepare  # imports wandb; fresh interpreters do that themselves

    prepare()


def _import(name: str) -> str | None:
    try:
        importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - a module may raise anything; the supervisor shows it
        return f"importing {name} failed:\n{traceback.format_exc()}"
    return None


def _runtime_problem(name: str) -> str | None:
    found = find_runtime(_open_files())
    if found is None:
        return None
    return (
        f"importing {name} has initialised a device's runtime (it opened {found}), which a forked worker"
        " can't use: leave it out"
    )


def find_runtime(files: Iterable[str]) -> str | None:
    """Return the open file that shows that CUDA or ROCm is initialised, or None."""
    return next((file for file in files if file in RUNTIME_FILES), None)


def _open_files() -> list[str]:
    """Return the files that this process has open (on Linux; other systems have no CUDA)."""
    found = []
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def _on_threads(name: str, threads: str) -> str:
    return (
        f"importing {name} has started threads ({threads}), which forked workers don't have: code that waits"
        " for them would hang there, so workers start without it"
    )
