"""Where a directory's servers are, and the key by which a person is let in to look: for `parallel-hpo open`.

Who starts a server puts a file up while it runs, which nobody else on the machine may read. One whose owner
was killed stays; of an embedded server the key opens nothing any more.
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
    """One server."""

    url: str
    ticket_key: str = field(repr=False)

    def address(self, path: str, now: float) -> str:
        """Return the address of a page that lets a browser in; `now` in seconds since the epoch."""
        return keys.with_ticket(self.url + path, self.ticket_key, now)

    def answers(self) -> bool:
        """Say whether the server is there."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/hpo/health", timeout=_ANSWER_LIMIT_S):
                return True
        except (OSError, HTTPException):
            return False


def put_up(directory: Path, plate: ServerFile) -> None:
    """Let this user's other processes know of a server; a disk that is full costs that and nothing else."""
    path = _file(directory, plate.url)
    with suppress(OSError):
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(asdict(plate), file)


def take_down(directory: Path, url: str) -> None:
    """Let nobody look for a server any more."""
    with suppress(OSError):
        _file(directory, url).unlink(missing_ok=True)


def all_in(directory: Path) -> Iterator[ServerFile]:
    """Yield the servers of a directory, those that are gone without a word too."""
    for path in sorted(directory.glob(_PATTERN)):
        with suppress(OSError, ValueError, KeyError, TypeError):
            read = json.loads(path.read_text())
            yield ServerFile(read["url"], read["ticket_key"])


def _file(directory: Path, url: str) -> Path:
    return directory / f"server-{url.rpartition(':')[2]}.door"
