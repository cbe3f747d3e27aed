"""Enough file descriptors for all workers, and the standard ones in their places, before anything starts."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

from parallel_hpo.errors import ConfigError

PER_WORKER: Final = 6
"""Its pipe, its output and its log, its process; the next one's while the last one's are being closed."""
SPARE: Final = 64
"""For the ledger, the server's connections, and what the user's own process opens meanwhile."""


def fill_standard() -> None:
    """Put the null device where standard input, output or error is closed (`2>&-`).

    The next file that is opened would get its number, and what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number that is free


def make_room_for(workers: int) -> None:
    """Raise this process's soft limit of open files where so many workers need it.

    Raises:
        ConfigError: the hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = soft_limit_for(workers, already_open=count_open(), soft=soft, hard=hard)
    if wanted != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def soft_limit_for(workers: int, *, already_open: int, soft: int, hard: int) -> int:
    """Return the soft limit that so many workers need, at least the present one; raises ConfigError."""
    needed = already_open + SPARE + workers * PER_WORKER
    if soft in (resource.RLIM_INFINITY, -1) or needed <= soft:
        return soft
    if hard not in (resource.RLIM_INFINITY, -1) and needed > hard:
        raise ConfigError(
            f"{workers} workers need {needed} open files, but this process may have {hard}"
            " (ulimit -Hn); raise that limit or lower hpo.workers"
        )
    return needed


def count_open() -> int:
    """Return how many files, pipes and sockets this process has open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())
