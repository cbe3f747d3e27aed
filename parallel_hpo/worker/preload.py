"""What the fork server imports for all workers, and whether forks can live with what that did."""

from __future__ import annotations

import importlib
import json
import sys
import threading
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from parallel_hpo.worker.spec import Preloaded

RUNTIME_FILES: Final = ("/dev/nvidia-uvm", "/dev/kfd")
"""What CUDA and ROCm open when they are initialised, and the management libraries do not."""


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
    before = set(threading.enumerate())
    for name in imports.users:
        if error := _import(name) or _why_unfit(name):
            return Preloaded(error, of_users=True)
    started = [thread.name for thread in threading.enumerate() if thread not in before]
    return Preloaded(warning=_on_threads(started) if started else "")


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


def _on_threads(names: list[str]) -> str:
    return (
        f"the modules of hpo.preload have started threads ({', '.join(names)}), which forked"
        " workers don't have: what waits for them there hangs"
    )
