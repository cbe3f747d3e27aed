"""The cores that this process may use, by its machine, its affinity and its cgroup's share of their time.

The numbers are joblib's, which `LOKY_MAX_CPU_COUNT` lowers too; importing joblib would take a fifth of a
second of each start.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

import psutil

from parallel_hpo.core.errors import ConfigError

CGROUP: Final = Path("/sys/fs/cgroup")
LIMIT: Final = "LOKY_MAX_CPU_COUNT"
"""Variable of joblib's with a maximum number of cores."""


def own_cores() -> frozenset[int]:
    """Return the logical cores of this process; empty if the system does not tell (macOS)."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def count_cores(cgroup: Path = CGROUP) -> int:
    """Return the logical cores that this process may use; ConfigError for a wrong limit."""
    limits = (len(own_cores()), cores_of_quota(cgroup), _limit())
    return min([_present(), *filter(None, limits)])


def count_physical_cores() -> int:
    """Return the physical cores that this process may use; where it may not use all, the logical ones."""
    cores = count_cores()
    return cores if cores < _present() else psutil.cpu_count(logical=False) or cores


def cores_of_quota(folder: Path) -> int | None:
    """Return for how many cores the time of a cgroup's folder suffices, rounded up; None: no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((folder / "cpu" / name).read_text().strip() for name in names)
        return math.ceil(int(quota) / int(period)) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def _present() -> int:
    return os.cpu_count() or 1


def _limit() -> int:
    """Return the environment's limit, 0 without one; ConfigError if it is no number."""
    text = os.environ.get(LIMIT, "0")
    if not text.isdecimal():
        raise ConfigError(f"{LIMIT} is {text!r}: give a number of cores, or unset it")
    return int(text)
