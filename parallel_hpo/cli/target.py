"""Reads a TARGET: `package.module:function` or `file.py:function`.

Only its form is checked here; whether it can be imported and called is found
out in a child process, before a sweep is created.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from parallel_hpo.errors import TargetError
from parallel_hpo.words import Target

_ALLOWED: Final = "allowed: package.module:function or file.py:function"


def find_from_here() -> None:
    """Find modules from the working directory on, as `python -m` does and an installed command does not."""
    with suppress(FileNotFoundError):  # it has been deleted, as others will say
        here = str(Path.cwd())
        if not sys.flags.safe_path and not {here, ""} & set(sys.path):
            sys.path.insert(0, here)


def parse_target(text: str, arguments: tuple[str, ...]) -> Target:
    """Return the target with what stands after `--`; raises TargetError for any other form."""
    file, colon, function = text.rpartition(":")
    if not colon:
        raise TargetError(f"TARGET {text!r} names no function; {_ALLOWED}")
    if not function.isidentifier():
        raise TargetError(f"TARGET {text!r}: {function!r} is no name of a function; {_ALLOWED}")
    if not file.endswith(".py") and not all(part.isidentifier() for part in file.split(".")):
        raise TargetError(f"TARGET {text!r}: {file!r} is neither a module's name nor a .py file; {_ALLOWED}")
    return Target(file, function, arguments)
