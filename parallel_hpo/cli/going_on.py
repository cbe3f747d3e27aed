"""The command that goes on with a sweep that ended early: the one that began it, with `--resume`."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from parallel_hpo.config.deadline import is_duration

OF_ONE_LAUNCH: Final = ("--resume", "--sweep-id")
"""Options that say which sweep; the resumed one's id takes their place."""
DEADLINE: Final = "--deadline"


def ended_by_the_clock(deadline: str | None, stop_reason: str) -> bool:
    """Whether a deadline has ended the sweep that is a time of day: no later launch can keep that."""
    return deadline is not None and not is_duration(deadline) and stop_reason.startswith("deadline ")


def go_on_command(
    words: Sequence[str],
    sweep_id: str,
    *,
    deadline_is_over: bool = False,
    find: Callable[[str], str | None] = shutil.which,
    interpreter: str = sys.executable,
) -> str:
    """Return the command line that goes on with the sweep that the command line `words` began.

    `words` are those of `sys.argv`; `find` says which file a command's name is. `deadline_is_over`: the
    sweep's deadline is a time of day that the next launch can't keep.
    """
    program, *rest = words
    end = rest.index("--") if "--" in rest else len(rest)
    dropped = (*OF_ONE_LAUNCH, *([DEADLINE] if deadline_is_over else []))
    ours = _without(dropped, rest[:end])
    ours += [DEADLINE, "null"] if deadline_is_over else []
    return shlex.join([*_program(program, find, interpreter), *ours, "--resume", sweep_id, *rest[end:]])


def _without(options: Collection[str], words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        is_dropped = before in options or word.partition("=")[0] in options
        kept += [] if is_dropped else [word]
    return kept


def _program(program: str, find: Callable[[str], str | None], interpreter: str) -> list[str]:
    """The command as short as it can be typed: by its name, where that finds the same file."""
    if Path(program).name == "__main__.py":
        return [_shortest(interpreter, "python", find), "-m", "parallel_hpo"]
    return [_shortest(program, "parallel-hpo", find)]


def _shortest(path: str, name: str, find: Callable[[str], str | None]) -> str:
    found = find(name)
    return name if found is not None and Path(found).absolute() == Path(path).absolute() else path
