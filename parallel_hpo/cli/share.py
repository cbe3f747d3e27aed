"""Reads `--share`: `I/N`, or `slurm` for what the batch system says of this task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from parallel_hpo.errors import UsageError
from parallel_hpo.plan import Share

_SLURM: Final = (("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""An array's tasks come before the tasks of one job, which an array's each have too."""


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
