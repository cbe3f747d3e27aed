"""A worker's `__main__`: the script that called `optimize`, without running it again; and loading a target's
file.

The module has the names that the script's `main` uses, so that pickle, multiprocessing and joblib find them
by name. The script's other definitions are loaded on first use. The functions below are written into pickles
by `pickling/script.py`.

A target's file is loaded up to its call of `optimize`. A script often ends with `hpo.optimize(main)`,
without a guard, or in the `else` of `if hpo is None: main()`. So while the file is loaded,
`ConfigLoader.hpo` is a placeholder whose `optimize` ends the loading; all that `main` needs stands above
that line. Afterwards, names with the placeholder become None, as everywhere in a worker.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from itertools import takewhile
from multiprocessing import process
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

from parallel_hpo.core.child_spec import LazyDefinitions, PickledMain, Script, SharedMemory

MAIN: Final = "__main__"
OTHER_NAME: Final = "__mp_main__"
"""multiprocessing's name of the script in processes that import it; their pickles contain it."""


def unpickle(main: PickledMain) -> Any:
    """Become the script of `main`, and return the unpickled `main`."""
    finder = become(main.script)
    found, _ = _read(main.payload)
    if main.script.rest.at_once:
        with suppress(Exception):  # it may not be needed; its use would raise the error
            finder.load()
    return found


def become(script: Script) -> Finder:
    """Set this process's `__main__` and arguments to the script's; return the finder of its other names."""
    module = ModuleType(MAIN)
    vars(module).update({"__builtins__": builtins, **script.facts})
    if script.module:
        module.__spec__ = ModuleSpec(script.module, None, origin=script.facts.get("__file__"))
    finder = vars(module)["__getattr__"] = Finder(script.rest)
    sys.modules[MAIN] = sys.modules[OTHER_NAME] = module
    sys.argv = list(script.argv)
    return finder


class Finder:
    """`__getattr__` of the script's module: loads the script's other definitions on first use."""

    def __init__(self, rest: LazyDefinitions) -> None:
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
        """Load all other definitions, without changing existing names, which `main` may have set."""
        with self._lock:
            if self._is_loaded or not self._rest.names:
                return
            names = namespace()
            before = dict(names)
            names.update(_LazyUnpickler(io.BytesIO(self._rest.payload)).load())
            names.update(before)
            self._is_loaded = True


class _LazyUnpickler(pickle.Unpickler):
    """Takes shared objects from the script's module."""

    def persistent_load(self, pid: Any) -> Any:
        return namespace()[pid]


def _read(payload: bytes | SharedMemory) -> Any:
    """Unpickle; large arrays are in memory that workers share until one writes to it."""
    if isinstance(payload, bytes):
        return pickle.loads(payload)
    with Path(payload.path).open("rb") as file:
        if not payload.buffers:
            return pickle.load(file)
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        return pickle.load(file, buffers=[view[start : start + size] for start, size in payload.buffers])


# --- functions in the pickles --------------------------------------------------------


def namespace() -> dict[str, Any]:
    """Return the script's names: the globals of all its functions."""
    return vars(sys.modules[MAIN])


def put(names: Mapping[str, Any], rest: None) -> None:
    """Set names of the script; computing `rest` has set others."""
    namespace().update(names)


def cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """Return a function of `functools.lru_cache` with an empty cache."""
    return functools.lru_cache(maxsize=maxsize, typed=typed)(function)


def register_all(dispatching: Any, functions: Mapping[Any, Callable[..., Any]]) -> None:
    """Complete a function of `functools.singledispatch`."""
    for kind, function in functions.items():
        dispatching.register(kind, function)


def sentinel(name: str) -> Any:
    """Return a sentinel of `dataclasses`, which are compared by `is`."""
    return getattr(dataclasses, name)


def new_type(name: str, supertype: Any, facts: Mapping[str, Any]) -> Any:
    """Return a `typing.NewType`."""
    made = typing.NewType(name, supertype)  # type: ignore[misc] # the script has defined it
    for fact, value in facts.items():
        setattr(made, fact, value)
    return made


class _EnoughError(BaseException):
    """The file is loaded far enough; the file's `except Exception` does not catch this."""


class LoadingTarget:
    """Loads files as targets, and knows which one is being loaded."""

    def __init__(self) -> None:
        self._names: Mapping[str, Any] | None = None
        self._stand_ins: list[object] = []

    @contextmanager
    def of(self, module: ModuleType) -> Iterator[None]:
        """Mark the block as loading the file of `module`; `end` may end it early."""
        last_known = next(reversed(sys.modules))  # in a fork, visiting all modules would copy their pages
        self._names = vars(module)
        try:
            yield
        except _EnoughError:
            pass
        finally:
            self._names = None
            if self._stand_ins:
                new = takewhile(lambda name: name != last_known, reversed(list(sys.modules)))
                self._withdraw([module, *(sys.modules[name] for name in new)])

    def is_on(self, asker: FrameType) -> bool:
        """Return whether the calling code belongs to a file that is loaded, not run."""
        return self._names is not None or _is_imported_again(asker)

    def stand_in(self, thing: object) -> None:
        """Note a placeholder, which becomes None once the file is loaded."""
        if self._names is not None:
            self._stand_ins.append(thing)

    def end(self, names: Mapping[str, Any]) -> None:
        """End the loading if the file has these globals; else do nothing."""
        if names is self._names:
            raise _EnoughError

    def _withdraw(self, modules: list[ModuleType]) -> None:
        stand_ins = set(map(id, self._stand_ins))
        self._stand_ins.clear()
        for module in filter(_is_module, modules):
            for name, value in list(vars(module).items()):
                if id(value) in stand_ins:
                    setattr(module, name, None)


def _is_imported_again(asker: FrameType) -> bool:
    """Return whether this process was made by multiprocessing's spawn or forkserver.

    It imports the script first (`_inheriting`), then the modules of its target.
    """
    if getattr(process.current_process(), "_inheriting", False):
        return True
    at_top_level = asker.f_code.co_name == "<module>" and asker.f_globals.get("__name__") != "__main__"
    return at_top_level and process.parent_process() is not None


def _is_module(found: object) -> bool:
    """Return whether it is a module: `sys.modules` may hold anything."""
    return isinstance(found, ModuleType)


LOADING = LoadingTarget()
"""This process's."""
