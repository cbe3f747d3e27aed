"""Which release of wandb's client is installed here, from its metadata alone: its import takes 0.5 s."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version


def installed_client() -> str:
    """Return its version; 'not installed' where there is none."""
    try:
        return version("wandb")
    except PackageNotFoundError:
        return "not installed"


def release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, by which releases are compared; none: it has none."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
