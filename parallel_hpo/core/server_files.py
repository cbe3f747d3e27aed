"""Files that list a directory's running servers, with their ticket keys, for `parallel-hpo open`.

The session or `serve` writes one while its server runs; only the user may read it. After a kill the file
stays, but the key of an embedded server is then invalid.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Final

from parallel_hpo.core import keys

_ANSWER_LIMIT_S: Final = 1.0
_PATTERN: Final = "server-*.door"


@dataclass(frozen=True, slots=True)
class ServerFile:
    """One server's address and ticket key."""

    url: str
    ticket_key: str = field(repr=False)

    def address(self, path: str, now: float) -> str:
        """Return a page's URL with a one-time login token; `now` in seconds since the epoch."""
        return keys.with_ticket(self.url + path, self.ticket_key, now)

    def answers(self) -> bool:
        """Return whether the server answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/hpo/health", timeout=_ANSWER_LIMIT_S):
                return True
        except (OSError, HTTPException):
            return False


def register(directory: Path, server: ServerFile) -> None:
    """Write a server's file for this user's other processes; errors such as a full disk are ignored."""
    path = _file(directory, server.url)
    with suppress(OSError):
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(asdict(server), file)


def unregister(directory: Path, url: str) -> None:
    """Delete a server's file."""
    with suppress(OSError):
        _file(directory, url).unlink(missing_ok=True)


def registered(directory: Path) -> Iterator[ServerFile]:
    """Yield the servers registered in a directory, including killed ones."""
    for path in sorted(directory.glob(_PATTERN)):
        with suppress(OSError, ValueError, KeyError, TypeError):
            read = json.loads(path.read_text())
            yield ServerFile(read["url"], read["ticket_key"])


def _file(directory: Path, url: str) -> Path:
    return directory / f"server-{url.rpartition(':')[2]}.door"
