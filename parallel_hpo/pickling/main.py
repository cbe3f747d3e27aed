"""Pickles `main` by value for the workers, explains what can't be pickled or is large, and keeps it for
reruns.

A `main` with a name is not kept: its user wants the present file, and a pickle may hold data that belongs in
no file. Others (closures, lambdas, a notebook's functions) are kept in a file with mode 600, unless they
contain a secret of the environment.
"""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FunctionType, GetSetDescriptorType
from typing import Any, BinaryIO, Final, cast

from parallel_hpo.core.child_spec import PickledMain, SharedMemory
from parallel_hpo.core.errors import TargetError
from parallel_hpo.core.types import Program, Target
from parallel_hpo.pickling.payload import Payload, load_main
from parallel_hpo.pickling.script import (
    Definitions,
    ScriptPickler,
    describe_script,
    names_in,
    names_of_script,
)

HEAVY_BYTES: Final = 50 * 10**6
"""Size that causes a warning: unpickling takes a noticeable part of a second in every worker."""

MOST_NAMED: Final = 3
"""Number of the largest names in a warning."""
_MB: Final = 10**6


def pack_main(
    main: Callable[[], object] | Target | Program, stack: ExitStack, *, travels: bool = False
) -> PickledMain | Target | Program:
    """Return `main` packed for the workers, valid until `stack` is closed; `travels`: also for other
    machines.

    Raises:
        TargetError: it isn't callable, or uses an object that can't be pickled, which the message names.
    """
    if isinstance(main, Target | Program):
        return main
    if not callable(main):
        raise TargetError(f"main is a {type(main).__name__}, not a function: give one without arguments")
    names = names_of_script(main)
    payload = Payload(stack, whole=travels)
    pickler = ScriptPickler(payload.file, names, payload.take)
    try:
        pickler.dump((main, Definitions()))
    except Exception as error:  # noqa: BLE001 - an object's reduction may raise anything
        raise TargetError(explain(main, error)) from None
    size = payload.size
    return PickledMain(payload.close(), describe_script(names, pickler), size)


def weight_problem(
    main: Callable[[], object] | Target | Program, packed: PickledMain | Target | Program
) -> str | None:
    """Return in words what makes `main` too large, None if it is not."""
    if isinstance(main, Target | Program) or isinstance(packed, Target | Program):
        return None
    return explain_weight(main, packed.size) if packed.size > HEAVY_BYTES else None


@dataclass(frozen=True, slots=True)
class UsedObject:
    """An object that `main` uses, with words by which a user finds it."""

    what: str
    name: str
    value: Any


def explain(main: Callable[[], object], error: Exception) -> str:
    """Return what in `main` can't be pickled; `error` is what pickling raised."""
    name = getattr(main, "__qualname__", repr(main))
    names = names_of_script(main)
    culprits = [
        f"{used.what} is a {type(used.value).__name__}"
        for used in find_used(main)
        if _weigh(used.value, names) is None
    ]
    if not culprits:
        return f"{name} can't be sent to the workers: {error}"
    return (
        f"{name} can't be sent to the workers: {'; '.join(culprits)}, which can't be pickled:"
        " create it inside the function, so that each worker has its own"
    )


def explain_weight(main: Callable[[], object], size: int) -> str:
    """Return how large `main` is, and what in it is large."""
    names = names_of_script(main)
    weights = {used.name: _weigh(used.value, names) or 0 for used in find_used(main)}
    largest = sorted(weights.items(), key=lambda item: -item[1])[:MOST_NAMED]
    parts = ", ".join(f"{name} {weight / _MB:.0f} MB" for name, weight in largest if weight >= _MB)
    return (
        f"{getattr(main, '__qualname__', 'main')} takes {size / _MB:.0f} MB with all that it uses"
        f" ({parts or 'nothing in it stands out'}), and every worker unpickles that: load such data inside"
        " the function, from a file"
    )


def find_used(main: Any) -> Iterator[UsedObject]:
    """Yield the objects that `main` refers to: its defaults, closure, globals, and the object that it is
    bound to.

    Functions and classes of the same script are replaced by what they refer to.
    """
    if hasattr(main, "__self__"):
        yield UsedObject("the object that it is a method of", "self", main.__self__)
    if isinstance(main, functools.partial):
        for number, value in enumerate(main.args):
            yield UsedObject(f"its argument number {number + 1}", f"argument number {number + 1}", value)
        for name, value in main.keywords.items():
            yield UsedObject(f"its argument {name!r}", name, value)
        yield from find_used(main.func)
    function = getattr(main, "__func__", main)
    if isinstance(function, FunctionType):
        yield from _used_by(function, "its", function.__globals__, {id(function)})


def _used_by(definition: Any, whose: str, names: dict[str, Any], seen: set[int]) -> Iterator[UsedObject]:
    named = _named_by if isinstance(definition, FunctionType) else _named_in_class
    for used in named(definition, whose):
        inner = used.value
        if not _is_of_script(inner, names):
            yield used
        elif id(inner) not in seen:
            seen.add(id(inner))
            yield from _used_by(inner, f"{inner.__qualname__}'s", names, seen)


def _is_of_script(value: Any, names: dict[str, Any]) -> bool:
    """Return whether it is a function or class defined by the script with these globals."""
    if isinstance(value, FunctionType):
        return value.__globals__ is names
    return isinstance(value, type) and value.__module__ == names["__name__"]


def _named_in_class(definition: type, whose: str) -> Iterator[UsedObject]:
    for base in definition.__bases__:
        yield UsedObject(f"{whose} base {base.__name__}", base.__name__, base)
    for name, value in vars(definition).items():
        if not isinstance(value, GetSetDescriptorType):
            yield UsedObject(f"{whose} attribute {name!r}", name, getattr(value, "__func__", value))


def _named_by(function: FunctionType, whose: str) -> Iterator[UsedObject]:
    for number, value in enumerate(function.__defaults__ or ()):
        yield UsedObject(f"{whose} default number {number + 1}", f"default number {number + 1}", value)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            continue  # it has no value yet
        yield UsedObject(f"{whose} enclosed variable {name!r}", name, value)
    for name in dict.fromkeys(names_in(function.__code__)):
        if name in function.__globals__:
            yield UsedObject(f"{whose} global {name!r}", name, function.__globals__[name])


def _weigh(value: Any, names: dict[str, Any]) -> int | None:
    """Return the pickled size of a value in bytes, None if it can't be pickled."""
    scale = _Scale()
    try:
        ScriptPickler(cast(BinaryIO, scale), names, scale.weigh).dump(value)
    except Exception:  # noqa: BLE001 - whatever an object's own reduction raises
        return None
    return scale.weight


class _Scale:
    """A file that only counts."""

    def __init__(self) -> None:
        self.weight = 0

    def write(self, data: Any) -> int:
        self.weight += len(data)
        return len(data)

    def weigh(self, buffer: pickle.PickleBuffer) -> bool:
        """Count a buffer outside of the pickle."""
        self.weight += buffer.raw().nbytes
        return False


FILE: Final = "main.pickle"
DATA: Final = "main.data"
"""File of the data that was in shared memory."""
MOST_BYTES: Final = 50 * 10**6
"""Maximum size of a kept `main`: larger ones contain data."""


def name_of(main: Callable[[], object] | Target | Program) -> Target | Program | None:
    """Return the name by which another process finds `main`, if it has one."""
    if isinstance(main, Program):
        return main
    if isinstance(main, Target):
        return replace(main, file=_whole(main.file))
    module = sys.modules.get(str(getattr(main, "__module__", "")))
    name = str(getattr(main, "__qualname__", ""))
    if module is None or not name.isidentifier() or getattr(module, name, None) is not main:
        return None
    spec = getattr(module, "__spec__", None)
    file = spec.name if spec is not None else str(getattr(module, "__file__", None) or "")
    if spec is None and not file.endswith(".py"):
        return None
    return Target(_whole(file), name, tuple(map(str, sys.argv[1:])))


def note_main(
    name: Target | Program | None,
    main: PickledMain | Target | Program,
    folder: Path,
    secrets: Iterable[str],
) -> dict[str, Any]:
    """Return the ledger's facts about `main`; keep one without a name in the sweep's folder.

    It is not kept if it contains one of `secrets`.
    """
    if name is None and isinstance(main, PickledMain):
        return {"main": None, "main_not_kept": keep(main, folder, secrets) or ""}
    return {"main": {"kind": type(name).__name__} | asdict(name or main), "main_not_kept": ""}


def from_fact(fact: Mapping[str, Any]) -> Target | Program:
    """Return the name from a ledger's fact."""
    if fact["kind"] == "Program":
        return Program(fact["file"], tuple(fact["command"]))
    return Target(fact["file"], fact["function"], tuple(fact["argv"]))


def keep(main: PickledMain, folder: Path, secrets: Iterable[str]) -> str | None:
    """Keep a `main` without a name in a folder; return why it was not kept, or None."""
    if main.size > MOST_BYTES:
        return f"it takes {main.size / 10**6:.0f} MB"
    data = _read(main.payload)
    rest = main.script.rest.payload
    if any(secret.encode() in part for secret in secrets for part in (data, rest)):
        return "it contains the value of a variable with a secret's name"
    if isinstance(main.payload, SharedMemory):
        _write(folder / DATA, data)
        main = replace(main, payload=replace(main.payload, path=str(folder / DATA)))
    _write(folder / FILE, pickle.dumps(main))
    return None


def kept_in(folder: Path) -> PickledMain | None:
    """Return the `main` kept in a folder, None if there is none."""
    try:
        found = load_main((folder / FILE).read_bytes())
    except FileNotFoundError:
        return None
    return found if isinstance(found, PickledMain) else None


def _whole(file: str) -> str:
    return str(Path(file).absolute()) if file.endswith(".py") else file


def _read(payload: bytes | SharedMemory) -> bytes:
    return payload if isinstance(payload, bytes) else Path(payload.path).read_bytes()


def _write(path: Path, data: bytes) -> None:
    """Write a file with mode 600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
