"""The server as a process of its own: alone, or with an owner, as a sweep's own server has one.

The owner is whoever holds the other end of its stdin.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.commands import Started, start_python

KEY: Final = "k" * 40
END_WITHIN_S: Final = 60.0
"""A timeout that only a hanging server reaches."""


def start_server(
    environment: Mapping[str, str], *options: str, before: Callable[[], object] | None = None
) -> Started:
    words = ("-m", "parallel_hpo.server", *options)
    return start_python(*words, folder=Path(environment["HOME"]), environment=environment, before=before)


class Embedded:
    """The server and its owner, which has sent it a key."""

    def __init__(self, environment: Mapping[str, str], database: Path, *, key: str | None = KEY) -> None:
        words = ("-m", "parallel_hpo.server", "--embedded", "--database", str(database))
        home = Path(environment["HOME"])
        stdin, self._owner = os.pipe()
        self.process = start_python(*words, folder=home, environment=environment, stdin=stdin)
        os.close(stdin)
        if key is not None:
            os.write(self._owner, json.dumps({"api_key": key}).encode() + b"\n")

    def said(self) -> dict[str, str]:
        """Return what it prints once it is ready."""
        words: dict[str, str] = json.loads(self.process.stdout.readline())
        return words

    def end(self) -> tuple[int, str]:
        """Close the owner's end; return the server's exit code and its errors."""
        if self.process.returncode is None:
            os.close(self._owner)
        _, errors = self.process.communicate(timeout=END_WITHIN_S)
        return self.process.wait(), errors
