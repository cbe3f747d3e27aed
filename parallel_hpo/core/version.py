"""This package's version (the build reads it here), that of wandb, and the libraries of extras."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from parallel_hpo.core.errors import MissingExtraError

__version__ = "0.1.0"


def library(name: str, *, extra: str, at_least: int = 0, load: Callable[[], Any] | None = None) -> Any:
    """Import a library of an extra; MissingExtraError says how to install it.

    `at_least` is the minimum major version; `load` imports it if more than its name is needed.
    """
    from importlib import metadata  # late: it takes a third of the start of a short command

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
    """Return the version of the installed wandb client, or 'not installed'."""
    from importlib import metadata

    try:
        return metadata.version("wandb")
    except metadata.PackageNotFoundError:
        return "not installed"


def release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, for comparing releases."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
