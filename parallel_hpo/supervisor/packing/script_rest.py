"""The script that calls `optimize`, as its workers are told of it: arguments, facts, the rest of its names.

What `main` does not use must cost next to nothing, and must never be in the way: it goes along as far
as it is small and can be pickled, and a worker loads it only when it is asked for.
"""

from __future__ import annotations

import functools
import io
import sys
import typing
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any, Final

from parallel_hpo.protocol.spec import Rest, Script
from parallel_hpo.supervisor.packing.script_pickler import SEARCHING, RestPickler, ScriptPickler
from parallel_hpo.worker.script import MAIN
from parallel_hpo.worker.wording import error_in_words

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


def _pack_rest(names: dict[str, Any], pickler: ScriptPickler) -> Rest:
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
    return Rest(frozenset(others), payload, at_once, left_out)


def _is_wanted(name: str, value: Any, *, searches: bool) -> bool:
    if isinstance(value, _DEFINITIONS) and value.__module__ == MAIN:
        return True
    return searches and type(value) in _PLAIN and not name.startswith("_")


def _pickle(
    values: Mapping[str, Any], names: dict[str, Any], known: Mapping[int, str], *, limit_bytes: int
) -> bytes:
    file = _Small(limit_bytes)
    RestPickler(file, names, known, file.refuse_large).dump(dict(values))
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
