"""Whether sweeps can be kept in a directory, and where this process works: found out before anything starts.

What fails here is the configuration's: nothing exists on a server yet. Ledgers and databases belong on a
local disk: their locks and their shared memory hold on one machine; over the network they are slow, or lie.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from parallel_hpo.errors import ConfigError, UsageError

NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph"),
        *("fuse.ceph", "fuse.sshfs"),
    }
)
"""How Linux calls those file systems."""
MOUNTS: Final = Path("/proc/mounts")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")

NO_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems answer that know no locks."""

Lock = Callable[[int], None]


def lock_both_ways(fd: int) -> None:
    """Lock a file as a ledger is locked, and as SQLite locks its database."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def prepare_directory(directory: Path, *, lock: Lock = lock_both_ways) -> None:
    """Make the directory where there is none, and try in it what a sweep will do; raises ConfigError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            _try_lock(probe.fileno(), directory, lock)
    except OSError as error:
        raise ConfigError(
            f"hpo.directory is {directory}, where nothing can be written: {error.strerror};"
            " name a folder of yours there or by --directory"
        ) from None


def working_folder() -> str:
    """Return this process's working directory; raises UsageError where it has been deleted."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise UsageError(
            "the working directory has been deleted: change to one that exists, and start again"
        ) from None


def _try_lock(fd: int, directory: Path, lock: Lock) -> None:
    try:
        lock(fd)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ConfigError(
            f"hpo.directory is {directory}, whose file system has no file locks ({error.strerror}):"
            " two supervisors could run one sweep there; name a folder on a local disk"
        ) from None


def network_file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """Return the kind of network file system that a folder lies on; '' where it is none, or nobody knows."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return ""
    place = Path(os.path.realpath(folder))
    kind, depth = "", 0
    for point, mounted in map(_mount_in, lines):
        if place.is_relative_to(point) and len(point.parts) >= depth:  # a later one hides what was there
            kind, depth = mounted, len(point.parts)
    return kind if kind in NETWORK else ""


def why_unsafe(folder: Path, mounts: Path = MOUNTS) -> str:
    """Return what is to be said of a directory of sweeps on such a file system; '' where it is on none."""
    kind = network_file_system(folder, mounts)
    return f"{folder} is on the network ({kind}), where a ledger's locks may not hold" if kind else ""


def _mount_in(line: str) -> tuple[Path, str]:
    """Return where a file system is mounted, and its kind."""
    _, point, kind, *_ = [*line.split(" "), "", "", ""]
    return Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), point)), kind
