"""A sweep's or a project's runs as all open pages see them: read once, then kept up with what has changed.

However many pages are open, the database is asked at most every `FRESH_S`, and for those runs only that may
have changed. A page says which revision it has seen, and gets the rows that changed after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import Final
from uuid import uuid4

from parallel_hpo.config.sweep_words import Goal, Metric
from parallel_hpo.server.pages.rows import FACTS, Row, row_of
from parallel_hpo.server.rules.run_states import OPEN
from parallel_hpo.server.store import watching
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.watching import Seen, Which

FRESH_S: Final = 0.25
"""A page is at most this much behind the database."""
_KEYS_FRESH_S: Final = 2.0
_ASKED_FOR_KEYS: Final = 20
"""So many of the first and of the last runs are asked what they logged."""
_VALUE: Final = FACTS.index("value")
_OPEN: Final = frozenset(str(state) for state in OPEN)


@dataclass(slots=True)
class _Kept:
    seen: Seen
    row: Row
    changed: int
    """The revision, of ours, at which it last changed."""


@dataclass(frozen=True, slots=True)
class News:
    """Rows of runs; `complete`: all that there are, else those that changed after the revision asked for."""

    rows: list[Row]
    revision: str
    complete: bool
    best: str | None
    """The id of the run that has the best value so far."""
    keys: tuple[str, ...]
    """What is known of their history keys, as JSON."""


class Watched:
    """What is known of the runs; any thread may ask."""

    def __init__(
        self, which: Which, *, fresh_s: float = FRESH_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._which = which
        self._fresh_s = fresh_s
        self._clock = clock
        self._lock = Lock()
        self._attempts: Mapping[str, int] = {}
        self._forget(None)

    def news(
        self,
        transaction: Transaction,
        wanted: Metric | None,
        since: str,
        attempts: Mapping[str, int] = MappingProxyType({}),
    ) -> News:
        """Return what has changed since a revision that this returned before; '': all.

        `attempts`: of the runs that have more than one.
        """
        with self._lock:
            self._attempts = attempts
            if wanted != self._metric:
                self._forget(wanted)
            if self._clock() - self._looked_at >= self._fresh_s:
                self._catch_up(transaction)
            name, _, number = since.partition("-")
            now = f"{self._name}-{self._revision}"
            if name != self._name or not number.isdigit():
                rows = [kept.row for kept in self._runs.values()]
                return News(rows, now, complete=True, best=self._best, keys=self._keys)
            rows = list(self._changed_after(int(number)))
            return News(rows, now, complete=False, best=self._best, keys=self._keys)

    def _changed_after(self, revision: int) -> Iterator[Row]:
        """Yield the rows that changed after a revision of ours, in the order of their runs."""
        keys = set[int]()
        for number, key in reversed(self._changes):
            if number <= revision:
                break
            keys.add(key)
        return (self._runs[key].row for key in sorted(keys))

    def _forget(self, wanted: Metric | None) -> None:
        self._metric = wanted
        self._name = uuid4().hex[:8]
        self._runs: dict[int, _Kept] = {}
        self._open = set[int]()
        self._changes: list[tuple[int, int]] = []
        """Revisions of ours and runs that changed at them, the newest last; each run's last one at least."""
        self._revision = 0
        self._told = -1
        """The newest revision of the sweep's own that was seen."""
        self._looked_at = self._asked_for_keys_at = float("-inf")
        self._keys: tuple[str, ...] = ()
        self._best: str | None = None

    def _catch_up(self, transaction: Transaction) -> None:
        self._looked_at = self._clock()
        if self._runs:
            newest = next(reversed(self._runs))
            found = watching.maybe_changed(transaction, self._which, self._told, newest, self._open)
            self._take(list(found))
        if len(self._runs) != watching.number_of(transaction, self._which):  # at first; or some were deleted
            self._forget(self._metric)
            self._looked_at = self._clock()
            self._take(watching.all_of(transaction, self._which))
        if self._clock() - self._asked_for_keys_at >= _KEYS_FRESH_S:
            self._asked_for_keys_at = self._clock()
            self._keys = tuple(watching.history_keys(transaction, self._which, _ASKED_FOR_KEYS))

    def _take(self, found: Iterable[Seen]) -> None:
        revision = self._revision + 1
        for seen in found:
            self._told = max(self._told, seen.revision)
            (self._open.add if seen.state in _OPEN else self._open.discard)(seen.id)
            kept = self._runs.get(seen.id)
            if kept is not None and kept.seen == seen:
                continue
            row = row_of(seen, self._metric, self._attempts.get(seen.name, 1))
            if kept is None or kept.row != row:
                self._runs[seen.id] = _Kept(seen, row, revision)
                self._changes.append((revision, seen.id))
                self._revision = revision
            else:
                kept.seen = seen
        if self._revision == revision:
            self._best = self._find_best()
            if len(self._changes) > 4 * len(self._runs):
                self._changes = sorted((kept.changed, key) for key, kept in self._runs.items())

    def _find_best(self) -> str | None:
        if self._metric is None:
            return None
        rows = (kept.row.facts for kept in self._runs.values() if kept.row.facts[_VALUE] is not None)
        choose = max if self._metric.goal is Goal.MAXIMIZE else min
        found = choose(rows, key=lambda facts: facts[_VALUE], default=None)
        return None if found is None else str(found[0])
