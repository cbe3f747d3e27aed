"""A worker's `__main__`: the script that called `optimize`, without running it again.

It is a module whose names are what the script's `main` uses; so pickle, multiprocessing and
joblib find there what they look for by name. What else the script defines is loaded when it is first
asked for. The functions below are what `supervisor.script_pickler` writes into a pickle.

The loading of a target's file, which calls nothing: it ends where the file would call `optimize`.

A script ends with `if hpo is None: main()` and `else: hpo.optimize(main)`, often without a guard. So
`ConfigLoader.hpo` is not None while the file is loaded, but a stand-in whose `optimize` ends the
loading; whatever `main` needs stands above that line, as it does when the script is run. Afterwards
names that hold the stand-in hold None, as everywhere in a worker.
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
        """Load all of it, and change nothing of what there is: `main` may have changed that itself."""
        with self._lock:
            if self._is_loaded or not self._rest.names:
                return
            names = namespace()
            before = dict(names)
            names.update(_LazyUnpickler(io.BytesIO(self._rest.payload)).load())
            names.update(before)
            self._is_loaded = True


class _LazyUnpickler(pickle.Unpickler):
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


class _EnoughError(BaseException):
    """The file is loaded as far as is needed; no `except Exception` of the file's stops this."""


class LoadingTarget:
    """Which file is being loaded as a target, if one is."""

    def __init__(self) -> None:
        self._names: Mapping[str, Any] | None = None
        self._stand_ins: list[object] = []

    @contextmanager
    def of(self, module: ModuleType) -> Iterator[None]:
        """Load the file of `module` in this block, which may end early."""
        last_known = next(reversed(sys.modules))  # a fork that went through all would copy their pages
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
        """Whether the code that asks belongs to a file that is loaded, and not run."""
        return self._names is not None or _is_imported_anew(asker)

    def stand_in(self, thing: object) -> None:
        """Note what is to be None once the file is loaded."""
        if self._names is not None:
            self._stand_ins.append(thing)

    def end(self, names: Mapping[str, Any]) -> None:
        """End the loading if it is that of the file with these globals; else do nothing."""
        if names is self._names:
            raise _EnoughError

    def _withdraw(self, modules: list[ModuleType]) -> None:
        stand_ins = set(map(id, self._stand_ins))
        self._stand_ins.clear()
        for module in filter(_is_module, modules):
            for name, value in list(vars(module).items()):
                if id(value) in stand_ins:
                    setattr(module, name, None)


def _is_imported_anew(asker: FrameType) -> bool:
    """Whether it is in a process that multiprocessing has made by spawn or forkserver.

    That imports the script, as `_inheriting` says, and later the modules of what it is to call.
    """
    if getattr(process.current_process(), "_inheriting", False):
        return True
    at_top_level = asker.f_code.co_name == "<module>" and asker.f_globals.get("__name__") != "__main__"
    return at_top_level and process.parent_process() is not None


def _is_module(found: object) -> bool:
    """Whether it is what it seems: anything may be put into `sys.modules`."""
    return isinstance(found, ModuleType)


LOADING = LoadingTarget()
"""This process's."""
