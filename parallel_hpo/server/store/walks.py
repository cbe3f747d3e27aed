"""Orders of runs that cost a look at each of them, kept from a page to the next.

Whoever goes on gets what followed when they began, whatever was changed since: none
twice, none left out. One that is no longer kept, or was kept by another server
process, is found again, and the page begins at its place in that.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final
from uuid import uuid4

_KEPT: Final = 64
"""Of 10,000 runs each, they take 5 MB."""


@dataclass(frozen=True, slots=True)
class Matter:
    """What a walk is over: a project's runs, those of one sweep only for who may see no other, by filters."""

    project_id: int
    only_sweep: str | None
    filters: str | None


@dataclass(frozen=True, slots=True)
class Walk:
    """The keys of all its runs, in their order."""

    name: str
    matter: Matter
    order: str | None
    ids: Sequence[int]


class Walks:
    """The walks that were gone on with last; any thread may ask."""

    def __init__(self, *, new_name: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._new_name = new_name
        self._walks: OrderedDict[str, Walk] = OrderedDict()
        self._lock = Lock()

    def keep(self, matter: Matter, order: str | None, ids: Sequence[int]) -> Walk:
        """Keep a walk under a new name."""
        walk = Walk(self._new_name(), matter, order, array("q", ids))
        with self._lock:
            self._walks[walk.name] = walk
            while len(self._walks) > _KEPT:
                self._walks.popitem(last=False)
        return walk

    def find(self, name: str, matter: Matter) -> Walk | None:
        """Return the walk of this name if it is kept, and over this matter."""
        with self._lock:
            walk = self._walks.get(name)
            if walk is None or walk.matter != matter:
                return None
            self._walks.move_to_end(name)
            return walk
