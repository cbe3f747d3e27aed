"""A worker's `__main__`: the script that called `optimize`, without running it again.

It is a module whose names are what the script's `main` uses; so pickle, multiprocessing and
joblib find there what they look for by name. What else the script defines is loaded when it is first
asked for. The functions below are what `supervisor.script_pickler` writes into a pickle.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
import io
import mmap
import pickle
import sys
import threading
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from parallel_hpo.protocol.spec import PickledMain, Rest, Script, SharedMemory

MAIN: Final = "__main__"
OTHER_NAME: Final = "__mp_main__"
"""What multiprocessing calls the script in the processes that import it: what they send back names it."""


def unpickle(main: PickledMain) -> Any:
    """Become the script that `main` comes from, and return what `main` was pickled from."""
    finder = become(main.script)
    found, _ = _read(main.payload)
    if main.script.rest.at_once:
        with suppress(Exception):  # nobody is sure to need it; whoever does will be told
            finder.load()
    return found


def become(script: Script) -> Finder:
    """Make this process's `__main__` and arguments the script's; return what finds the rest of its names."""
    module = ModuleType(MAIN)
    vars(module).update({"__builtins__": builtins, **script.facts})
    if script.module:
        module.__spec__ = ModuleSpec(script.module, None, origin=script.facts.get("__file__"))
    finder = vars(module)["__getattr__"] = Finder(script.rest)
    sys.modules[MAIN] = sys.modules[OTHER_NAME] = module
    sys.argv = list(script.argv)
    return finder


class Finder:
    """`__getattr__` of the script's module: looks among the rest of what the script defines."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._lock = threading.RLock()
        self._is_loaded = False

    def __call__(self, name: str) -> Any:
        if name in self._rest.names:
            self.load()
            return namespace()[name]
        why = self._rest.left_out.get(name)
        more = f": the script's own did not travel to this worker ({why})" if why else ""
        raise AttributeError(f"module {MAIN!r} has no attribute {name!r}{more}", name=name)

    def load(self) -> None:
        """Load all of it, and change nothing of what there is: `main` may have changed that itself."""
        with self._lock:
            if self._is_loaded or not self._rest.names:
                return
            names = namespace()
            before = dict(names)
            names.update(_RestUnpickler(io.BytesIO(self._rest.payload)).load())
            names.update(before)
            self._is_loaded = True


class _RestUnpickler(pickle.Unpickler):
    """Takes what `main` uses from the script's module."""

    def persistent_load(self, pid: Any) -> Any:
        return namespace()[pid]


def _read(payload: bytes | SharedMemory) -> Any:
    """Unpickle; large arrays lie in memory that all workers share until one of them writes to it."""
    if isinstance(payload, bytes):
        return pickle.loads(payload)
    with Path(payload.path).open("rb") as file:
        if not payload.buffers:
            return pickle.load(file)
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        return pickle.load(file, buffers=[view[start : start + size] for start, size in payload.buffers])


# --- what stands in the pickles ------------------------------------------------------


def namespace() -> dict[str, Any]:
    """Return the script's names: the globals of all its functions."""
    return vars(sys.modules[MAIN])


def put(names: Mapping[str, Any], rest: None) -> None:
    """Let the script have these names; `rest` has put others."""
    namespace().update(names)


def cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """Return a function of `functools.lru_cache`, its cache empty."""
    return functools.lru_cache(maxsize=maxsize, typed=typed)(function)


def register_all(dispatching: Any, functions: Mapping[Any, Callable[..., Any]]) -> None:
    """Complete a function of `functools.singledispatch`."""
    for kind, function in functions.items():
        dispatching.register(kind, function)


def sentinel(name: str) -> Any:
    """Return one of the objects of `dataclasses` that are compared by `is`."""
    return getattr(dataclasses, name)


def new_type(name: str, supertype: Any, facts: Mapping[str, Any]) -> Any:
    """Return a `typing.NewType`."""
    made = typing.NewType(name, supertype)  # type: ignore[misc] # it is one that the script has made
    for fact, value in facts.items():
        setattr(made, fact, value)
    return made
