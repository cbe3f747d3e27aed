"""What all files of a folder share: it is made for the first test that asks, and ends behind the last."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import pytest

_T = TypeVar("_T")


def shared(
    request: pytest.FixtureRequest, key: pytest.StashKey[_T], begin: Callable[[], AbstractContextManager[_T]]
) -> _T:
    """Return what is there for the folder of a fixture's module, or begin it."""
    folder = request.node.parent
    if key not in folder.stash:
        stack = ExitStack()
        folder.stash[key] = stack.enter_context(begin())

        def end() -> None:
            del folder.stash[key]
            stack.close()

        folder.addfinalizer(end)
    there: _T = folder.stash[key]
    return there
