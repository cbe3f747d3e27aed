"""Artifacts' files, kept once under the MD5 of their content: which are there, and which nobody needs.

A client asks which files it has to send, and commits its artifact when they are there, maybe days later. So a
file that no artifact has stays as long as an artifact is unfinished that was begun before it was last sent or
asked for. Both that question and the taking back are writes of the database, which come one after another.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from parallel_hpo.server.files.addresses import BLOBS, Place
from parallel_hpo.server.store import leftovers
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.world import World

_CLOCKS_S: Final = 3600
"""So far may the clocks of a database's servers be apart."""
_AT_ONCE: Final = 200
"""So many are removed in one transaction: others write between."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken back from the disk."""

    files: int = 0
    size: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.files + other.files, self.size + other.size)


def claim(_writing: Transaction, world: World, place: Place) -> bool:
    """Say whether a file is there; it then stays for the artifact that is to have it."""
    now = world.clock()
    try:
        os.utime(place.within(world.files), (now, now))
    except FileNotFoundError:
        return False
    return True


def take_back(world: World, names: Sequence[str]) -> Taken:
    """Remove those of some files that no artifact has, nor one that is being made may get."""
    batches = (names[begin : begin + _AT_ONCE] for begin in range(0, len(names), _AT_ONCE))
    return sum((_take_back(world, batch) for batch in batches), Taken())


def _take_back(world: World, names: Sequence[str]) -> Taken:
    taken = Taken()
    with world.database.write() as transaction:
        begun = leftovers.first_unfinished(transaction)
        for digest in leftovers.unused(transaction, [_digest(name) for name in names]):
            path = Place(BLOBS, base64.b64decode(digest).hex()).within(world.files)
            if path.exists() and (begun is None or path.stat().st_mtime < begun - _CLOCKS_S):
                taken += Taken(1, path.stat().st_size)
                path.unlink()
    return taken


def unused(world: World, names: Sequence[str]) -> list[str]:
    """Return those of some files that no artifact has."""
    known = {_digest(name): name for name in names}
    with world.database.read() as transaction:
        return [known[digest] for digest in leftovers.unused(transaction, list(known))]


def _digest(name: str) -> str:
    """Return an MD5 as manifests have it."""
    return base64.b64encode(bytes.fromhex(name)).decode()
