"""What an embedded server hears from its owner, and tells it: the key, the end, the database's trouble."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import IO

from parallel_hpo.errors import UsageError
from parallel_hpo.server.http.kept_key import KEY_LENGTH
from parallel_hpo.server.store.failures import TellTrouble


def key_from(stdin: IO[bytes]) -> str:
    """Read the key that the owner writes as the first line of stdin."""
    try:
        key = json.loads(stdin.readline())["api_key"]
    except (ValueError, KeyError, TypeError):
        key = None
    if not isinstance(key, str) or len(key) < KEY_LENGTH:
        raise UsageError('an embedded server needs one line {"api_key": "<40 digits or more>"} on stdin')
    return key


def teller(stdout: IO[str]) -> TellTrouble:
    """Return what tells the owner of the database's trouble, and of its end."""

    def tell(why: str, for_good: bool) -> None:
        with suppress(OSError):  # the owner is gone, and so are we soon
            print(json.dumps({"trouble": why, "for_good": for_good}), file=stdout, flush=True)

    return tell


def exit_at_end_of(stdin: IO[bytes]) -> None:
    """Wait for the owner's end of the pipe to close, then end the process.

    Nobody is left to be served, and the database bears it: a graceful end would only take longer.
    """
    while stdin.read(4096):
        pass
    os._exit(0)
