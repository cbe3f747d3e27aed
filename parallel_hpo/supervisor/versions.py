"""What of this machine's software must be that of all machines of a sweep."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

from parallel_hpo.protocol.pool import Versions
from parallel_hpo.version import __version__


def versions_here() -> Versions:
    """Return what must be the same on all machines."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Versions(python, _of_client(), __version__)


def _of_client() -> str:
    try:
        return version("wandb")
    except PackageNotFoundError:
        return "not installed"
