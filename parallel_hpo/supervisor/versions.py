"""What of this machine's software must be that of all machines of a sweep."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

from parallel_hpo.protocol.pool import Versions


def versions_here() -> Versions:
    """Return what must be the same on all machines."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Versions(python, _version("wandb"), _version("parallel_hpo"))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "run from its sources"
