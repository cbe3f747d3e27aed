"""Libraries that the base install lacks: imported when they are needed, asked for in words where missing.

Which release of wandb's client is installed here, from its metadata alone: its import takes 0.5 s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module, metadata
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from parallel_hpo.core.errors import MissingExtraError


def library(name: str, *, extra: str, at_least: int = 0, load: Callable[[], Any] | None = None) -> Any:
    """Return a library that comes with an extra; raises MissingExtraError that says how to install it.

    `at_least` is the major version that is needed; `load` imports it, where that takes more than a name.
    """
    how = f"pip install 'parallel_hpo[{extra}]'"
    try:
        found = load() if load else import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"this needs {name}, which can't be imported ({error}): {how}") from None
    version = metadata.version(name) if at_least else ""
    if at_least and int(version.partition(".")[0]) < at_least:
        raise MissingExtraError(f"this needs {name} {at_least} or newer, and {version} is installed: {how}")
    return found


def installed_client() -> str:
    """Return its version; 'not installed' where there is none."""
    try:
        return version("wandb")
    except PackageNotFoundError:
        return "not installed"


def release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, by which releases are compared; none: it has none."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
