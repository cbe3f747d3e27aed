"""What the fork server imports for all workers, and whether forks can live with what that did."""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from parallel_hpo.core.child_spec import Preloaded

RUNTIME_FILES: Final = ("/dev/nvidia-uvm", "/dev/kfd")
"""What CUDA and ROCm open when they are initialised, and the management libraries do not."""
SETTLE_S: Final = 0.2
"""A module may start a thread that has done its work soon."""


@dataclass(frozen=True, slots=True)
class Imports:
    """Modules to import: `ours` first, then the user's own, on the user's own path if that is given."""

    ours: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    sys_path: tuple[str, ...] = ()

    def to_argument(self) -> str:
        """Return it as one word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, word: str) -> Imports:
        """Return what `to_argument` was given."""
        return cls(**{name: tuple(value) for name, value in json.loads(word).items()})


@dataclass(frozen=True, slots=True)
class Threads:
    """What runs in this process beside the main thread and will not in a fork of it."""

    python: frozenset[str]
    native: int
    """Those of native code; without OpenBLAS's, which ends them before a fork and makes new ones after it."""

    @classmethod
    def now(cls) -> Threads:
        """Return those that run now."""
        python = [thread.name for thread in threading.enumerate()]
        native = psutil.Process().num_threads() - len(python)
        return cls(frozenset(python), native - _threads_of_openblas() if native > 0 else 0)

    def words_since(self, before: Threads) -> str:
        """Return in words which of them were not there before, or ''."""
        names = sorted(self.python - before.python)
        native = self.native - before.native
        return ", ".join([*names, f"{native} of native code"] if native > 0 else names)


def wait_for_threads_since(before: Threads) -> str:
    """Return in words which threads there are more than before, once those that end soon have ended."""
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


def preload(imports: Imports) -> Preloaded:
    """Import all; return what went wrong, with the traceback of the module that failed."""
    for name in imports.ours:
        if error := _import(name):
            return Preloaded(error)
    if imports.ours:
        _prepare()  # before any code of the user's holds on to a function of wandb's
    if not imports.users:
        return Preloaded()
    sys.path[:] = imports.sys_path or sys.path
    before = Threads.now()
    for name in imports.users:
        if error := _import(name) or _why_unfit(name):
            return Preloaded(error, of_users=True)
        if started := wait_for_threads_since(before):
            return Preloaded(_on_threads(name, started), unfit=name)
    return Preloaded()


def _prepare() -> None:
    from parallel_hpo.worker.worker import prepare  # imports wandb, which fresh interpreters do themselves

    prepare()


def _import(name: str) -> str:
    try:
        importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - a module may raise anything; the supervisor shows it
        return f"importing {name} failed:\n{traceback.format_exc()}"
    return ""


def _why_unfit(name: str) -> str:
    found = find_runtime(_open_files())
    if not found:
        return ""
    return (
        f"importing {name} has initialised a device's runtime (it opened {found}), which a forked worker"
        " can't use: leave it out"
    )


def find_runtime(files: Iterable[str]) -> str:
    """Return which of these open files shows that CUDA or ROCm is initialised; '' where none does."""
    return next((file for file in files if file in RUNTIME_FILES), "")


def _open_files() -> list[str]:
    """What this process has open (Linux; elsewhere there is no CUDA to look for)."""
    found = []
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue  # the listing's own
    return found


def _on_threads(name: str, threads: str) -> str:
    return (
        f"importing {name} has started threads ({threads}), which forked workers don't have: what waits"
        " for them there would hang, so workers start without it"
    )
