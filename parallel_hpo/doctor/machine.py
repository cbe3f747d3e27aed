"""The doctor on the machine: cores, start method, open files, shared memory, disk and what kind it is."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from parallel_hpo.config.hpo import StartMethod
from parallel_hpo.doctor.findings import Finding, bad, good, warning
from parallel_hpo.errors import ConfigError
from parallel_hpo.supervisor.processes.descriptors import count_open, soft_limit_for
from parallel_hpo.supervisor.records.directory import MOUNTS, why_unsafe

MB: Final = 2**20
SHARED_MB: Final = 1024
"""Data loaders pass batches through shared memory; containers often have 64 MB of it."""
DISK_MB: Final = 1024
"""A worker's log may grow to 256 MB, and W&B keeps each run's files."""
DISK_BAD_MB: Final = 100


def examine_cores(cores: int, physical: int) -> Finding:
    """Say how many cores may be used."""
    total = os.cpu_count() or cores
    words = f"{cores} of {total} logical ones may be used, {physical} workers without devices"
    return good("cores", words)


def examine_start_method(method: StartMethod) -> Finding:
    """Say how workers start, and what that costs."""
    if method is StartMethod.SPAWN:
        words = "spawn: each worker imports wandb anew, which takes longer and more memory"
        return warning("start method", words, "use forkserver, unless something can't live with a fork")
    if sys.platform != "linux":
        words = (
            f"forkserver; on {sys.platform} what a killed worker leaves in a session of its own is not found"
        )
        return warning("start method", words, "let runs start no daemons")
    return good("start method", "forkserver")


def examine_descriptors(workers: int) -> Finding:
    """Say whether so many workers have enough open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        wanted = soft_limit_for(workers, already_open=count_open(), soft=soft, hard=hard)
    except ConfigError as error:
        return bad("open files", str(error), "raise `ulimit -Hn`, or lower hpo.workers")
    raised = f", to be raised to {wanted}" if wanted != soft else ""
    return good("open files", f"limit {soft}{raised}, enough for {workers} workers")


def examine_places(
    directory: Path, shared: Path = Path("/dev/shm"), mounts: Path = MOUNTS
) -> Iterator[Finding]:
    """Say whether there is room where workers share memory, and where sweeps are kept."""
    if sys.platform == "linux":
        yield _on_shared(shared)
    yield _on_directory(directory)
    if unsafe := why_unsafe(directory, mounts):
        yield warning("directory", unsafe, "set hpo.directory to a folder on a local disk")


def _on_shared(shared: Path) -> Finding:
    subject = str(shared)
    if not shared.is_dir():
        return warning(subject, "is missing", "mount it: data loaders with workers of their own need it")
    free_mb = shutil.disk_usage(shared).free / MB
    if free_mb < SHARED_MB:
        advice = "give a container more (docker run --shm-size=8g), or let data loaders have no workers"
        return warning(subject, f"{free_mb:.0f} MB free", advice)
    return good(subject, f"{free_mb:.0f} MB free")


def _on_directory(directory: Path) -> Finding:
    subject = "directory"
    nearest = next(folder for folder in (directory, *directory.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        words = f"{directory} can't be made or written"
        return bad(subject, words, "set hpo.directory to a folder of your own")
    free_mb = shutil.disk_usage(nearest).free / MB
    words = f"{directory}, {free_mb:.0f} MB free"
    if free_mb < DISK_BAD_MB:
        return bad(subject, words, "make room, or set hpo.directory to another disk")
    if free_mb < DISK_MB:
        return warning(subject, words, "make room, or set hpo.directory to another disk")
    return good(subject, words)
