"""Make `main` fit to travel: by value, with cloudpickle, or say what in it can't."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from parallel_hpo.errors import TargetError
from parallel_hpo.words import Program, Target
from parallel_hpo.worker.spec import PickledMain


def pack_main(main: Callable[[], object] | Target | Program) -> PickledMain | Target | Program:
    """Return `main` as it goes to the workers.

    Raises:
        TargetError: it isn't callable, or something that it uses can't be pickled; names that.
    """
    if isinstance(main, Target | Program):
        return main
    if not callable(main):
        raise TargetError(f"main is a {type(main).__name__}, not a function: give one without arguments")
    try:
        return PickledMain(cloudpickle.dumps(main))
    except Exception as error:  # noqa: BLE001 - whatever an object's own reduction raises
        raise TargetError(_explain(main, error)) from None


def _explain(main: Callable[[], object], error: Exception) -> str:
    name = getattr(main, "__qualname__", repr(main))
    culprits = [f"{what} is a {type(value).__name__}" for what, value in _used(main) if not _fits(value)]
    if not culprits:
        return f"{name} can't be sent to the workers: {error}"
    return (
        f"{name} can't be sent to the workers: {'; '.join(culprits)}, which can't be pickled:"
        " create it inside the function, so that each worker has its own"
    )


def _used(main: Any) -> Iterator[tuple[str, Any]]:
    """What a function refers to: its defaults, closure, globals, and the object that it is bound to."""
    if hasattr(main, "__self__"):
        yield "the object that it is a method of", main.__self__
    function = getattr(main, "__func__", main)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for number, value in enumerate(function.__defaults__ or ()):
        yield f"its default number {number + 1}", value
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            continue  # it has no value yet
        yield f"its enclosed variable {name!r}", value
    for name in code.co_names:
        if name in function.__globals__:
            yield f"its global {name!r}", function.__globals__[name]


def _fits(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # noqa: BLE001 - whatever an object's own reduction raises
        return False
    return True
