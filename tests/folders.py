"""Resources that all files of a folder share, from the first test that needs one to the last."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import pytest

_T = TypeVar("_T")


def shared(
    request: pytest.FixtureRequest, key: pytest.StashKey[_T], begin: Callable[[], AbstractContextManager[_T]]
) -> _T:
    """Return the resource of the folder of a fixture's module; begin it if it is missing."""
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
