"""Pickles what a script defines, by value, so that it arrives as the worker's `__main__`.

cloudpickle, with three differences: the script's functions share the globals of one module, what
the script defines can be found there by its name, and some things travel that
cloudpickle refuses, or leaves to the script's being imported. Leans on cloudpickle's `globals_ref`.

The script that calls `optimize`, as its workers are told of it: arguments, facts, the rest of its names.

What `main` does not use must cost next to nothing, and must never be in the way: it goes along as far
as it is small and can be pickled, and a worker loads it only when it is asked for.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import importlib
import io
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, BinaryIO, Final

import cloudpickle

from parallel_hpo.core.child_spec import LazyDefinitions, Script
from parallel_hpo.core.errors import error_in_words
from parallel_hpo.worker import script
from parallel_hpo.worker.script import MAIN

SEARCHING: Final = frozenset({"globals", "eval", "exec"})
"""Who uses these may look for any name of the script."""
_STATE: Final = 2
"""Where the state stands in what cloudpickle reduces functions and classes to."""
_WORD: Final = re.compile(r"[^\W\d]\w*")


class ScriptPickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types
    """A pickler for one object, `main` or the rest, of the script whose globals are `names`."""

    def __init__(
        self, file: BinaryIO, names: dict[str, Any], buffer_callback: Callable[[Any], bool] | None = None
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self.globals_ref[id(names)] = _ScriptGlobals(__name__=script.MAIN)
        self._names = names
        self._defined: set[str] = set()
        self.sent: set[str] = set()
        """Names that the script's module has once this is loaded."""
        self.words: set[str] = set()
        """Words by which what was sent may look for names of the script: those of annotations in quotes."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Definitions):
            return self._reduce_definitions()
        if _is_module_of_its_own_class(obj):
            return importlib.import_module, (obj.__name__,)
        reduce = _REDUCERS.get(type(obj))
        if reduce is not None:
            self._note(obj)
            return reduce(obj)
        if isinstance(obj, FunctionType | type):
            self._note(obj)
        reduced = super().reducer_override(obj)
        if not isinstance(reduced, tuple):
            return reduced
        if isinstance(obj, type) and "." in obj.__qualname__ and len(reduced) > _STATE:
            reduced[_STATE][0]["__qualname__"] = obj.__qualname__  # cloudpickle forgets where it stands
        if isinstance(obj, FunctionType):
            if obj.__globals__ is self._names:
                self.sent |= reduced[_STATE][1]["__globals__"].keys()  # see cloudpickle's _function_getstate
            if _is_dispatching(obj):
                return _reduce_dispatching(obj)
        return reduced

    def _note(self, definition: Any) -> None:
        """Keep the name of one of the script's own definitions, and what it may look for."""
        if getattr(definition, "__module__", None) != script.MAIN:
            return
        name = str(getattr(definition, "__qualname__", ""))
        if _find(self._names, name) is definition:
            self._defined.add(name.partition(".")[0])
        self.words.update(_words_of(definition))

    def _reduce_definitions(self) -> Any:
        """Put what has been pickled where its name says; that may pickle more."""
        new = self._defined - self.sent
        self.sent |= new
        names = {name: self._names[name] for name in sorted(new)}
        return script.put, (names, Definitions() if new else None)


class LazyPickler(ScriptPickler):
    """Pickles the rest: `known` is what the worker has by then, name by identity."""

    def __init__(
        self,
        file: BinaryIO,
        names: dict[str, Any],
        known: Mapping[int, str],
        buffer_callback: Callable[[Any], bool],
    ) -> None:
        super().__init__(file, names, buffer_callback)
        self._known = known

    def persistent_id(self, obj: Any) -> str | None:
        return self._known.get(id(obj))


def _is_module_of_its_own_class(obj: Any) -> bool:
    """Whether it is a module to be imported, but no plain one, which alone cloudpickle knows.

    torch's configurations are such; cloudpickle takes one along where a function says `.config` of anything.
    """
    kind = type(obj)  # and not isinstance, which asks objects that may lie, or warn
    if kind is ModuleType or not issubclass(kind, ModuleType):
        return False
    return sys.modules.get(obj.__name__) is obj


class Definitions:
    """Stands behind what is pickled: the names of the definitions that were pickled before it."""


class _ScriptGlobals(dict[str, Any]):
    """Stands for the globals of the script's functions."""

    def __reduce__(self) -> Any:
        return script.namespace, ()


def _find(names: Mapping[str, Any], qualname: str) -> Any:
    """Return what pickle would find under this name; None where that is nothing."""
    first, *inner = qualname.split(".")
    found = names.get(first)
    for name in inner:
        found = getattr(found, name, None)
    return found


def _words_of(definition: Any) -> Iterator[str]:
    if isinstance(definition, FunctionType):
        yield from _searches_of(definition.__code__)
    try:
        annotations = vars(definition).get("__annotations__") or getattr(definition, "__annotations__", {})
        texts = [text for text in annotations.values() if isinstance(text, str)]
    except Exception:  # noqa: BLE001 - annotations are evaluated from Python 3.14 on, and may fail
        return
    for text in texts:
        yield from _WORD.findall(text)


def _searches_of(code: CodeType) -> Iterator[str]:
    """Yield which of the functions that search for names it calls; `model.eval()` is none of them."""
    if SEARCHING.intersection(code.co_names):
        loaded = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
        yield from SEARCHING.intersection(loaded)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _searches_of(constant)


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the names by which a function, and those within it, refer to globals and attributes."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


# --- what cloudpickle refuses, or pickles by a name that a worker can't import -----------


def _reduce_cached(function: Any) -> Any:
    if function.__module__ != script.MAIN and "<locals>" not in function.__qualname__:
        return NotImplemented
    parameters = function.cache_parameters()
    return script.cached, (function.__wrapped__, parameters["maxsize"], parameters["typed"])


def _reduce_cached_property(found: Any) -> Any:
    state = {name: value for name, value in vars(found).items() if name not in ("lock", "func")}
    return functools.cached_property, (found.func,), state


def _reduce_new_type(found: Any) -> Any:
    if found.__module__ != script.MAIN:
        return NotImplemented
    return script.new_type, (found.__name__, found.__supertype__, dict(vars(found)))


def _is_dispatching(function: FunctionType) -> bool:
    """Whether it is one of `functools.singledispatch`, whose insides hold weak references."""
    inside = {"registry", "dispatch", "__wrapped__"} <= vars(function).keys()
    return inside and function.__globals__ is vars(functools)


def _reduce_dispatching(function: Any) -> Any:
    functions = dict(function.registry)
    return functools.singledispatch, (function.__wrapped__,), functions, None, None, script.register_all


def _reduce_code(code: CodeType) -> Any:
    """Keep the file's name, which cloudpickle 3.1 leaves out: tracebacks and `inspect` need it."""
    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if word == "<dynamic-code>" else word for word in arguments)


def _reduce_sentinel(found: Any) -> Any:
    name = next(name for name in _SENTINELS if getattr(dataclasses, name) is found)
    return script.sentinel, (name,)


_SENTINELS: Final = tuple(
    name for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY") if hasattr(dataclasses, name)
)
"""Compared by `is`; the last is an inside of `dataclasses`."""
_REDUCERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    type(functools.lru_cache(len)): _reduce_cached,
    CodeType: _reduce_code,
    functools.cached_property: _reduce_cached_property,
    typing.NewType: _reduce_new_type,
    **{type(getattr(dataclasses, name)): _reduce_sentinel for name in _SENTINELS},
}


LIMIT_BYTES: Final = 2**20
"""Definitions take kilobytes; what takes more is data that a definition refers to."""

_FACTS: Final = ("__file__", "__package__", "__doc__")
_DEFINITIONS: Final = (FunctionType, type, type(functools.lru_cache(len)), typing.NewType)
_ATOMS: Final = (bool, int, float, complex, str, bytes, type(None))
_PLAIN: Final = (*_ATOMS, tuple, list, dict, set, frozenset, *_DEFINITIONS, ModuleType)


def names_of_script(main: Callable[[], object]) -> dict[str, Any]:
    """Return the globals of the script: those that `main` itself knows, or else this process's `__main__`."""
    function = getattr(main, "__func__", main)
    own = getattr(function, "__globals__", {})
    return own if own.get("__name__") == MAIN else vars(sys.modules[MAIN])


def describe_script(names: dict[str, Any], pickler: ScriptPickler) -> Script:
    """Describe the script with these globals once `pickler` has pickled its `main`."""
    return Script(
        argv=tuple(map(str, sys.argv)),
        facts={name: names[name] for name in _FACTS if isinstance(names.get(name), str)},
        module=getattr(names.get("__spec__"), "name", ""),
        rest=_pack_rest(names, pickler),
    )


def _pack_rest(names: dict[str, Any], pickler: ScriptPickler) -> LazyDefinitions:
    sent = {name: names[name] for name in pickler.sent}
    known = {id(value): name for name, value in sent.items() if not isinstance(value, (*_ATOMS, ModuleType))}
    searches = not SEARCHING.isdisjoint(pickler.words)
    others = {
        name: value
        for name, value in names.items()
        if name not in pickler.sent and _is_wanted(name, value, searches=searches)
    }
    left_out: dict[str, str] = {}
    try:
        payload = _pickle(others, names, known, limit_bytes=LIMIT_BYTES)
    except Exception:  # noqa: BLE001 - whatever an object's own reduction raises
        left_out = _find_unfit(others, names, known)
        others = {name: value for name, value in others.items() if name not in left_out}
        payload = _pickle(others, names, known, limit_bytes=LIMIT_BYTES * len(others))
    at_once = searches or not pickler.words.isdisjoint(others)
    return LazyDefinitions(frozenset(others), payload, at_once, left_out)


def _is_wanted(name: str, value: Any, *, searches: bool) -> bool:
    if isinstance(value, _DEFINITIONS) and value.__module__ == MAIN:
        return True
    return searches and type(value) in _PLAIN and not name.startswith("_")


def _pickle(
    values: Mapping[str, Any], names: dict[str, Any], known: Mapping[int, str], *, limit_bytes: int
) -> bytes:
    file = _Small(limit_bytes)
    LazyPickler(file, names, known, file.refuse_large).dump(dict(values))
    return file.getvalue()


def _find_unfit(values: Mapping[str, Any], names: dict[str, Any], known: Mapping[int, str]) -> dict[str, str]:
    """Return which of these can't be pickled, and why not."""
    unfit = {}
    for name, value in values.items():
        try:
            _pickle({name: value}, names, known, limit_bytes=LIMIT_BYTES)
        except Exception as error:  # noqa: BLE001 - whatever an object's own reduction raises
            unfit[name] = str(error) if isinstance(error, _TooLargeError) else error_in_words(error)
    return unfit


class _TooLargeError(Exception):
    """What is not used must be small."""

    def __init__(self) -> None:
        super().__init__("it refers to data that main does not use")


class _Small(io.BytesIO):
    """A file that refuses to become large."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit_bytes:
            raise _TooLargeError
        return super().write(data)

    def refuse_large(self, buffer: Any) -> bool:
        """Have the pickler write a buffer here too, if it is small."""
        if buffer.raw().nbytes > self._limit_bytes:
            raise _TooLargeError
        return True
