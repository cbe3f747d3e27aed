"""Loads the user's `main` in a child: unpickles it, or imports it by name.

It runs in a check before the sweep is created, so that errors come early, and then in each worker.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import TargetError, error_in_words
from parallel_hpo.core.types import Program, Target
from parallel_hpo.worker import script
from parallel_hpo.worker.script import LOADING

Main = Callable[[], object]


def load_main(main: PickledMain | Target | Program) -> Main:
    """Return the callable that `main` stands for.

    Raises:
        TargetError: it can't be found, isn't callable, or needs arguments.
        Exception: raised by the user's code while it is imported or unpickled.
    """
    if isinstance(main, Program):
        from parallel_hpo.worker.program import ProgramMain, check_program  # imports wandb

        check_program(main)
        return ProgramMain(main)
    found = script.unpickle(main) if isinstance(main, PickledMain) else _import(main)
    name = str(main) if isinstance(main, Target) else getattr(found, "__qualname__", repr(found))
    if not callable(found):
        raise TargetError(f"{name} is a {type(found).__name__}, not a function: give one without arguments")
    _expect_no_arguments(found, name)
    return cast(Main, found)


def program_of(main: PickledMain | Target | Program) -> str:
    """Return the file of a `main` that was imported; '' if `__main__` is the user's script."""
    return sys.argv[0] if isinstance(main, Target) else ""


def main_problem(main: PickledMain | Target | Program) -> str | None:
    """Return why `main` can't be called in a worker, or None. Called before the sweep is created."""
    try:
        load_main(main)
    except TargetError as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything while it is loaded
        name = main if isinstance(main, Target | Program) else "main"
        return f"{name} can't be loaded in a worker: {error_in_words(error)}{_place(error)}"
    return None


def _place(error: BaseException) -> str:
    """Return where in the user's code an error was raised: the last frame outside this file and importlib."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    return f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""


def _import(target: Target) -> Any:
    module = _run_file(target) if target.file.endswith(".py") else _import_module(target.file)
    sys.argv = [getattr(module, "__file__", None) or target.file, *target.argv]
    if not hasattr(module, target.function):
        near = ", ".join(
            name
            for name, value in vars(module).items()
            if callable(value) and not name.startswith("_") and _is_of(module, value)
        )
        raise TargetError(f"{target.file} has no {target.function!r}; it has: {near or 'nothing to call'}")
    return getattr(module, target.function)


def _is_of(module: Any, value: Any) -> bool:
    """Return whether a module defines a value, rather than imports it."""
    return bool(getattr(value, "__module__", None) == module.__name__)


def _run_file(target: Target) -> Any:
    """Import a file with its folder first on the path, as for a script."""
    path = Path(target.file).absolute()
    if not path.is_file():
        raise TargetError(f"{target.file}: no such file")
    sys.path.insert(0, str(path.parent))
    sys.argv = [target.file, *target.argv]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{target.file} is no Python file")
    return _load(spec, spec.loader)


def _import_module(name: str) -> ModuleType:
    """Import a module by name, as `importlib` does; don't load it twice."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return importlib.import_module(name)  # it raises the right error
    module = _load(spec, spec.loader)
    package, _, own_name = name.rpartition(".")
    if package:
        setattr(sys.modules[package], own_name, module)
    return module


def _load(spec: ModuleSpec, loader: Loader) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with LOADING.of(module):
            loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)
        raise
    return module


def _expect_no_arguments(function: Callable[..., object], name: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a C function without a signature
    try:
        signature.bind()
    except TypeError as error:
        raise TargetError(f"{name}{signature} can't be called without arguments: {error}") from None
