"""A sweep's or a project's runs as all open pages see them: read once, then kept up with what has changed.

However many pages are open, the database is asked at most every `FRESH_S`, and for those runs only that may
have changed. A page says which revision it has seen, and gets the rows that changed after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
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


class Watched:
    """What is known of the runs; any thread may ask."""

    def __init__(self, which: Which, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._which = which
        self._clock = clock
        self._lock = Lock()
        self._forget()

    def news(self, transaction: Transaction, wanted: Metric | None, since: str) -> News:
        """Return what has changed since a revision that this returned before; '': all."""
        with self._lock:
            if self._is_stale(wanted):
                self._catch_up(transaction, wanted)
            head = f"{self._name}-"
            known = int(since.removeprefix(head)) if since.startswith(head) else None
            now = f"{head}{self._revision}"
            if known is None:
                return News([kept.row for kept in self._runs.values()], now, complete=True)
            changed = [kept.row for kept in self._runs.values() if kept.changed > known]
            return News(changed, now, complete=False)

    def best(self, wanted: Metric | None) -> str | None:
        """Return the id of the run with the best value so far that has ended well or goes on."""
        if wanted is None:
            return None
        with self._lock:
            known = [
                (kept.row.facts[_VALUE], kept.row.facts[0])
                for kept in self._runs.values()
                if kept.row.facts[_VALUE] is not None
            ]
        choose = max if wanted.goal is Goal.MAXIMIZE else min
        return choose(known, key=lambda pair: pair[0], default=(None, None))[1]

    def _forget(self) -> None:
        self._name = uuid4().hex[:8]
        self._runs: dict[int, _Kept] = {}
        self._revision = 0
        self._told = -1
        """The newest revision of the sweep's own that was seen."""
        self._looked_at = float("-inf")
        self._metric: Metric | None = None

    def _is_stale(self, wanted: Metric | None) -> bool:
        return wanted != self._metric or self._clock() - self._looked_at >= FRESH_S

    def _catch_up(self, transaction: Transaction, wanted: Metric | None) -> None:
        self._looked_at = self._clock()
        if wanted != self._metric:
            self._forget()
            self._metric, self._looked_at = wanted, self._clock()
        if self._runs:
            known_open = [key for key, kept in self._runs.items() if kept.seen.state in _OPEN]
            newest = next(reversed(self._runs))
            self._take(watching.maybe_changed(transaction, self._which, self._told, newest, known_open))
        if len(self._runs) != watching.number_of(transaction, self._which):  # at first; or some were deleted
            self._forget()
            self._metric, self._looked_at = wanted, self._clock()
            self._take(watching.all_of(transaction, self._which))

    def _take(self, found: Iterable[Seen]) -> None:
        revision = self._revision + 1
        for seen in found:
            self._told = max(self._told, seen.revision)
            kept = self._runs.get(seen.id)
            if kept is not None and kept.seen == seen:
                continue
            row = row_of(seen, self._metric)
            if kept is None or kept.row != row:
                self._runs[seen.id] = _Kept(seen, row, revision)
                self._revision = revision
            else:
                kept.seen = seen
