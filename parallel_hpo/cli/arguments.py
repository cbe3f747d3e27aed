"""Reads what `run` is given: TARGET, and `--share`.

TARGET is `package.module:function` or `file.py:function`. Only its form is checked here; whether it can be
imported and called is found out in a child process, before a sweep is created.

A share is `I/N`, or `slurm` for what the batch system says of this task.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from parallel_hpo.core.errors import TargetError, UsageError
from parallel_hpo.core.types import Target
from parallel_hpo.count.policy import Share

_ALLOWED: Final = "allowed: package.module:function or file.py:function"

_SLURM: Final = (("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""An array's tasks come before the tasks of one job, which an array's each have too."""


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


def parse_share(text: str, environment: Mapping[str, str]) -> Share:
    """Return the share; raises UsageError for anything else, or where Slurm says nothing."""
    if text == "slurm":
        return _of_slurm(environment)
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if match is None:
        raise UsageError(f"--share {text}: allowed: I/N, such as 1/4 to 4/4, or slurm")
    return _checked(Share(int(match[1]), int(match[2])), f"--share {text}")


def _of_slurm(environment: Mapping[str, str]) -> Share:
    for number_name, count_name in _SLURM:
        number, count = environment.get(number_name, ""), environment.get(count_name, "")
        if number.isdigit() and count.isdigit() and int(count) > 1:
            # Arrays begin at SLURM_ARRAY_TASK_MIN (0, 1, anything) and must go on without gaps; tasks at 0.
            first = int(environment.get("SLURM_ARRAY_TASK_MIN", "0")) if "ARRAY" in number_name else 0
            where = f"--share slurm ({number_name}={number}, {count_name}={count})"
            return _checked(Share(int(number) - first + 1, int(count)), where)
    raise UsageError(
        "--share slurm: this is no task of a Slurm array or of srun: neither SLURM_ARRAY_TASK_ID and"
        " SLURM_ARRAY_TASK_COUNT nor SLURM_PROCID and SLURM_NTASKS say which of how many it is"
    )


def _checked(share: Share, where: str) -> Share:
    if 1 <= share.number <= share.of:
        return share
    raise UsageError(f"{where}: share {share.number} of {share.of}; allowed: 1 to {share.of} of 1 or more")
