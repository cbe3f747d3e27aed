"""The command that goes on with a sweep that ended early: the one that began it, with `--resume`."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

OF_ONE_LAUNCH: Final = ("--resume", "--sweep-id")
"""Options that say which sweep; the resumed one's id takes their place."""


def go_on_command(
    words: Sequence[str],
    sweep_id: str,
    *,
    find: Callable[[str], str | None] = shutil.which,
    interpreter: str = sys.executable,
) -> str:
    """Return the command line that goes on with the sweep that the command line `words` began.

    `words` are those of `sys.argv`; `find` says which file a command's name is.
    """
    program, *rest = words
    end = rest.index("--") if "--" in rest else len(rest)
    ours = list(_without_sweep(rest[:end]))
    return shlex.join([*_program(program, find, interpreter), *ours, "--resume", sweep_id, *rest[end:]])


def _without_sweep(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        of_one = before in OF_ONE_LAUNCH or word.partition("=")[0] in OF_ONE_LAUNCH
        kept += [] if of_one else [word]
    return kept


def _program(program: str, find: Callable[[str], str | None], interpreter: str) -> list[str]:
    """The command as short as it can be typed: by its name, where that finds the same file."""
    if Path(program).name == "__main__.py":
        return [_shortest(interpreter, "python", find), "-m", "parallel_hpo"]
    return [_shortest(program, "parallel-hpo", find)]


def _shortest(path: str, name: str, find: Callable[[str], str | None]) -> str:
    found = find(name)
    return name if found is not None and Path(found).absolute() == Path(path).absolute() else path
