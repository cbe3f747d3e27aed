"""Whether a folder lies on a file system of the network: ledgers and databases belong on a local disk.

Their locks and their shared memory hold on one machine; over the network they are slow, or lie.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph"),
        *("fuse.ceph", "fuse.sshfs"),
    }
)
"""How Linux calls those file systems."""
MOUNTS: Final = Path("/proc/mounts")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


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
