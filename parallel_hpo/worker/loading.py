"""The loading of a target's file, which calls nothing: it ends where the file would call `optimize`.

A script ends with `if hpo is None: main()` and `else: hpo.optimize(main)`, often without a guard. So
`ConfigLoader.hpo` is not None while the file is loaded, but a stand-in whose `optimize` ends the
loading; whatever `main` needs stands above that line, as it does when the script is run. Afterwards
names that hold the stand-in hold None, as everywhere in a worker.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from multiprocessing import process
from types import FrameType, ModuleType
from typing import Any


class _EnoughError(BaseException):
    """The file is loaded as far as is needed; no `except Exception` of the file's stops this."""


class Loading:
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


LOADING = Loading()
"""This process's."""
