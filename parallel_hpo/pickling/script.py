"""Pickles a script's definitions by value, so that they arrive as the worker's `__main__`.

It extends cloudpickle and uses its internal `globals_ref`. The script's functions share one module's
globals, its definitions can be found there by name, and it pickles some objects that cloudpickle refuses or
pickles by name.

Definitions that `main` does not use must cost little and cause no error. So they are included if they are
small and can be pickled, and a worker loads them on first use.
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
"""Functions by which code may look up any name of the script."""
_STATE: Final = 2
"""Index of the state in cloudpickle's reduction of functions and classes."""
_WORD: Final = re.compile(r"[^\W\d]\w*")


class ScriptPickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types
    """A pickler for `main` or the rest of the script with the globals `names`."""

    def __init__(
        self, file: BinaryIO, names: dict[str, Any], buffer_callback: Callable[[Any], bool] | None = None
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self.globals_ref[id(names)] = _ScriptGlobals(__name__=script.MAIN)
        self._names = names
        self._defined: set[str] = set()
        self.sent: set[str] = set()
        """Names in the script's module after this is loaded."""
        self.words: set[str] = set()
        """Words by which pickled code may look up names of the script, such as words of quoted
        annotations."""

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
            reduced[_STATE][0]["__qualname__"] = obj.__qualname__  # cloudpickle loses the qualified name
        if isinstance(obj, FunctionType):
            if obj.__globals__ is self._names:
                self.sent |= reduced[_STATE][1]["__globals__"].keys()  # see cloudpickle's _function_getstate
            if _is_dispatching(obj):
                return _reduce_dispatching(obj)
        return reduced

    def _note(self, definition: Any) -> None:
        """Note the name of one of the script's definitions, and the names that it may look up."""
        if getattr(definition, "__module__", None) != script.MAIN:
            return
        name = str(getattr(definition, "__qualname__", ""))
        if _find(self._names, name) is definition:
            self._defined.add(name.partition(".")[0])
        self.words.update(_words_of(definition))

    def _reduce_definitions(self) -> Any:
        """Reduce to setting the pickled definitions by name, which may pickle more."""
        new = self._defined - self.sent
        self.sent |= new
        names = {name: self._names[name] for name in sorted(new)}
        return script.put, (names, Definitions() if new else None)


class LazyPickler(ScriptPickler):
    """Pickles the rest; `known` maps the identity of objects that the worker has by then to their names."""

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
    """Return whether it is an importable module of a subclass, which cloudpickle does not know.

    torch's configurations are such modules; cloudpickle includes one if a function uses any attribute
    `.config`.
    """
    kind = type(obj)  # not isinstance, for which some objects lie or warn
    if kind is ModuleType or not issubclass(kind, ModuleType):
        return False
    return sys.modules.get(obj.__name__) is obj


class Definitions:
    """A marker after the pickled objects: sets the names of all definitions before it."""


class _ScriptGlobals(dict[str, Any]):
    """A placeholder for the globals of the script's functions."""

    def __reduce__(self) -> Any:
        return script.namespace, ()


def _find(names: Mapping[str, Any], qualname: str) -> Any:
    """Return what pickle would find by this name, or None."""
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
    """Yield the functions of `SEARCHING` that the code calls; `model.eval()` is not one."""
    if SEARCHING.intersection(code.co_names):
        loaded = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
        yield from SEARCHING.intersection(loaded)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _searches_of(constant)


def names_in(code: CodeType) -> Iterator[str]:
    """Yield names of globals and attributes in a function, including nested functions."""
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
    """Return whether it is a function of `functools.singledispatch`, which contains weak references."""
    inside = {"registry", "dispatch", "__wrapped__"} <= vars(function).keys()
    return inside and function.__globals__ is vars(functools)


def _reduce_dispatching(function: Any) -> Any:
    functions = dict(function.registry)
    return functools.singledispatch, (function.__wrapped__,), functions, None, None, script.register_all


def _reduce_code(code: CodeType) -> Any:
    """Keep the file's name, which cloudpickle 3.1 drops; tracebacks and `inspect` need it."""
    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if word == "<dynamic-code>" else word for word in arguments)


def _reduce_sentinel(found: Any) -> Any:
    name = next(name for name in _SENTINELS if getattr(dataclasses, name) is found)
    return script.sentinel, (name,)


_SENTINELS: Final = tuple(
    name for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY") if hasattr(dataclasses, name)
)
"""Sentinels compared by `is`; the last is internal to `dataclasses`."""
_REDUCERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    type(functools.lru_cache(len)): _reduce_cached,
    CodeType: _reduce_code,
    functools.cached_property: _reduce_cached_property,
    typing.NewType: _reduce_new_type,
    **{type(getattr(dataclasses, name)): _reduce_sentinel for name in _SENTINELS},
}


LIMIT_BYTES: Final = 2**20
"""Maximum size of the rest: definitions take kilobytes, more is data that they refer to."""

_FACTS: Final = ("__file__", "__package__", "__doc__")
_DEFINITIONS: Final = (FunctionType, type, type(functools.lru_cache(len)), typing.NewType)
_ATOMS: Final = (bool, int, float, complex, str, bytes, type(None))
_PLAIN: Final = (*_ATOMS, tuple, list, dict, set, frozenset, *_DEFINITIONS, ModuleType)


def names_of_script(main: Callable[[], object]) -> dict[str, Any]:
    """Return the globals of the script: those of `main`, or else of this process's `__main__`."""
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
    """Return which values can't be pickled, and why."""
    unfit = {}
    for name, value in values.items():
        try:
            _pickle({name: value}, names, known, limit_bytes=LIMIT_BYTES)
        except Exception as error:  # noqa: BLE001 - whatever an object's own reduction raises
            unfit[name] = str(error) if isinstance(error, _TooLargeError) else error_in_words(error)
    return unfit


class _TooLargeError(Exception):
    """A definition that `main` does not use is too large."""

    def __init__(self) -> None:
        super().__init__("it refers to data that main does not use")


class _Small(io.BytesIO):
    """A file with a maximum size."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit_bytes:
            raise _TooLargeError
        return super().write(data)

    def refuse_large(self, buffer: Any) -> bool:
        """Let the pickler write a small buffer here too."""
        if buffer.raw().nbytes > self._limit_bytes:
            raise _TooLargeError
        return True
