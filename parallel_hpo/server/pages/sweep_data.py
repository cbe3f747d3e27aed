"""A sweep's or a project's runs as all open pages see them: read once, then kept up with what has changed.

However many pages are open, the database is asked at most every `FRESH_S`, and for those runs only that may
have changed. A page says which revision it has seen, and gets the rows that changed after it.

What is known of a sweep's parameters from its configuration, as pages draw their axes.

The runs of a sweep or a project as their pages show them: JSON of columns, and CSV.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

from parallel_hpo.config.sweep_types import (
    Beta,
    Categorical,
    Constant,
    Distribution,
    Goal,
    IntUniform,
    LogNormal,
    LogUniform,
    Metric,
    Parameter,
    Uniform,
)
from parallel_hpo.server import engines
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.pages.answers import dump, object_of
from parallel_hpo.server.pages.run_data import FACTS, LedgerCache, Row, SweepCount, drawable, row_of
from parallel_hpo.server.rules.runs import OPEN
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import run_table, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Project, Sweep
from parallel_hpo.server.store.run_table import RunScope, TableRun
from parallel_hpo.server.store.tables import only_sweep
from parallel_hpo.server.values import RefusedError

FRESH_S: Final = 0.25
"""A page is at most this much behind the database."""
_KEYS_FRESH_S: Final = 2.0
_ASKED_FOR_KEYS: Final = 20
"""So many of the first and of the last runs are asked what they logged."""
_VALUE: Final = FACTS.index("value")
_OPEN: Final = frozenset(str(state) for state in OPEN)


@dataclass(slots=True)
class _Kept:
    seen: TableRun
    row: Row
    changed: int
    """The revision, of ours, at which it last changed."""


@dataclass(frozen=True, slots=True)
class RunChanges:
    """Rows of runs; `complete`: all that there are, else those that changed after the revision asked for."""

    rows: list[Row]
    revision: str
    complete: bool
    best: str | None
    """The id of the run that has the best value so far."""
    keys: tuple[str, ...]
    """What is known of their history keys, as JSON."""


class RunTable:
    """What is known of the runs; any thread may ask."""

    def __init__(
        self, which: RunScope, *, fresh_s: float = FRESH_S, clock: Callable[[], float] = time.monotonic
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
    ) -> RunChanges:
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
                return RunChanges(rows, now, complete=True, best=self._best, keys=self._keys)
            rows = list(self._changed_after(int(number)))
            return RunChanges(rows, now, complete=False, best=self._best, keys=self._keys)

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
            found = run_table.maybe_changed(transaction, self._which, self._told, newest, self._open)
            self._take(list(found))
        if len(self._runs) != run_table.number_of(transaction, self._which):  # at first; or some were deleted
            self._forget(self._metric)
            self._looked_at = self._clock()
            self._take(run_table.all_of(transaction, self._which))
        if self._clock() - self._asked_for_keys_at >= _KEYS_FRESH_S:
            self._asked_for_keys_at = self._clock()
            self._keys = tuple(run_table.history_keys(transaction, self._which, _ASKED_FOR_KEYS))

    def _take(self, found: Iterable[TableRun]) -> None:
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


_SPREAD: float = 3.0
"""So many standard deviations of a normal distribution an axis shows."""


def axis(parameter: Parameter) -> dict[str, Any]:
    """Return a parameter's name, kind, bounds (None: none are known) and whether its axis is logarithmic."""
    distribution = parameter.distribution
    low, high = _bounds(distribution)
    return {
        "name": ".".join(parameter.path),
        "kind": _kind(distribution),
        "log": isinstance(distribution, LogUniform | LogNormal),
        "varied": not isinstance(distribution, Constant) and _is_varied(distribution),
        "low": low,
        "high": high,
        "values": _values(distribution),
    }


def _is_varied(distribution: Distribution) -> bool:
    return not isinstance(distribution, Categorical) or len(distribution.values) > 1


def _kind(distribution: Distribution) -> str:
    values = _values(distribution)
    if values is None:
        whole = isinstance(distribution, IntUniform) or isinstance(getattr(distribution, "q", None), int)
        return "integer" if whole else "number"
    if any(isinstance(value, list | dict) for value in values):
        return "list"
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return "integer"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "number"
    return "category"


def _values(distribution: Distribution) -> list[Any] | None:
    if isinstance(distribution, Constant):
        return [distribution.value]
    return list(distribution.values) if isinstance(distribution, Categorical) else None


def _bounds(distribution: Distribution) -> tuple[float | None, float | None]:
    match distribution:
        case IntUniform(min=low, max=high) | Uniform(min=low, max=high) | LogUniform(min=low, max=high):
            return low, high
        case Beta():
            return 0.0, 1.0
        case LogNormal(mu=mu, sigma=sigma):
            return math.exp(mu - _SPREAD * sigma), math.exp(mu + _SPREAD * sigma)
        case Constant() | Categorical():
            return None, None
    return distribution.mu - _SPREAD * distribution.sigma, distribution.mu + _SPREAD * distribution.sigma


_KEPT: Final = 16
"""So many sweeps are kept in mind at once; of 10,000 runs each takes 20 MB."""
_LEDGERS_FRESH_S: Final = 2.0
_HEAD: Final = "parameters."
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Sweeps:
    """The sweeps that pages show; any thread may ask."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._watched: OrderedDict[RunScope, RunTable] = OrderedDict()
        self._ledgers = LedgerCache(fresh_s=_LEDGERS_FRESH_S)
        self._lock = Lock()

    def sweep_json(self, world: AppContext, at: SweepAt, since: str) -> bytes:
        """Return a sweep, and its runs that changed since a revision; RefusedError (404): there is none."""
        sweep, asked, news = self._news(world, at, since)
        return _document(sweep, asked, news)

    def sweep_csv(self, world: AppContext, at: SweepAt) -> bytes:
        """Return a sweep's runs as a table for spreadsheets, one line each."""
        sweep, _, news = self._news(world, at, "")
        return _as_csv(news.rows, _names_of(sweep, news.rows))

    def _news(self, world: AppContext, at: SweepAt, since: str) -> tuple[Sweep, SweepCount, RunChanges]:
        asked = self._ledgers.asked_of(world, at)
        with world.database.read() as transaction:
            sweep = sweep_at(transaction, at)
            watched = self._of(transaction, RunScope(sweep.project_id, sweep.id))
            wanted = engines.metric_of(sweep.config)
            return sweep, asked, watched.news(transaction, wanted, since, asked.attempts)

    def project_json(
        self, world: AppContext, project: Project, its_sweeps: list[dict[str, Any]], since: str
    ) -> bytes:
        """Return a project's sweeps, and its runs that changed since a revision."""
        with world.database.read() as transaction:
            news = self._of(transaction, RunScope(project.id)).news(transaction, None, since)
        names = list(dict.fromkeys(name for row in news.rows for name in row.parameters))
        return object_of(
            {
                "sweeps": dump(its_sweeps),
                "runs": _columns(news.rows, names),
                "revision": dump(news.revision),
                "complete": dump(news.complete),
            }
        )

    def _of(self, transaction: Transaction, which: RunScope) -> RunTable:
        if only_sweep(transaction) is not None:  # one who sees a part only must not be shown the whole
            return RunTable(which, fresh_s=self._fresh_s)
        with self._lock:
            watched = self._watched.setdefault(which, RunTable(which, fresh_s=self._fresh_s))
            self._watched.move_to_end(which)
            while len(self._watched) > _KEPT:
                self._watched.popitem(last=False)
            return watched


def sweep_at(transaction: Transaction, at: SweepAt) -> Sweep:
    """Return the sweep at an address; RefusedError (404) where there is none."""
    sweep = sweeps.find(transaction, at.sweep)
    if sweep is None or (sweep.entity, sweep.project) != (at.entity, at.project):
        raise RefusedError(f"sweep {at.entity}/{at.project}/{at.sweep} doesn't exist", status=404)
    return sweep


def head_of(sweep: Sweep) -> dict[str, Any]:
    """Return what is said of a sweep as a whole."""
    wanted = engines.metric_of(sweep.config)
    return {
        "id": sweep.id,
        "name": sweep.display_name or sweep.id,
        "entity": sweep.entity,
        "project": sweep.project,
        "state": str(sweep.state),
        "method": sweep.method,
        "created": sweep.created_at,
        "count": expected_runs(sweep.config),
        "metric": None if wanted is None else {"name": wanted.name, "goal": str(wanted.goal)},
    }


def _document(sweep: Sweep, asked: SweepCount, news: RunChanges) -> bytes:
    space = space_of(sweep.config)
    told = {"count": asked.count} if asked.is_known else {}
    parts = {
        "sweep": dump(head_of(sweep) | told | {"used": asked.used}),
        "parameters": dump(space),
        "runs": _columns(news.rows, _names_of(sweep, news.rows)),
        "workers": dump(list(asked.workers)),
        "keys": dump(list(_drawable(news.keys))),
        "best": dump(news.best),
        "revision": dump(news.revision),
        "complete": dump(news.complete),
    }
    return object_of(parts)


def _names_of(sweep: Sweep, rows: Sequence[Row]) -> list[str]:
    """Return the names of all parameters: those of the space, then what runs have besides."""
    known = (axis["name"] for axis in space_of(sweep.config))
    return list(dict.fromkeys([*known, *(name for row in rows for name in row.parameters)]))


def _columns(rows: Sequence[Row], parameters: Iterable[str]) -> bytes:
    """Put rows into JSON, column by column: no other thread works while one value is put into text."""
    facts = {name: dump([row.facts[place] for row in rows]) for place, name in enumerate(FACTS)}
    given = {name: dump([_plain(row.parameters.get(name)) for row in rows]) for name in parameters}
    return object_of(facts | {"parameters": object_of(given)})


def _as_csv(rows: Sequence[Row], parameters: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*FACTS, *(_HEAD + name for name in parameters)])
    for row in rows:
        given = (row.parameters.get(name) for name in parameters)
        writer.writerow([_cell(value) for value in (*row.facts, *given)])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """Return a value for a spreadsheet, in which no text is a formula."""
    if isinstance(value, bool | list | dict):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


@lru_cache(_KEPT)
def space_of(configuration: str) -> list[dict[str, Any]]:
    """Return the axes of a configuration's parameters."""
    return [axis(parameter) for parameter in engines.parse(configuration).parameters]


@lru_cache(256)
def expected_runs(configuration: str) -> int | None:
    """Return how many runs a sweep can have; None: no limit."""
    return engines.expected_runs(configuration)


@lru_cache(_KEPT)
def _drawable(known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys under which runs logged numbers."""
    return tuple(dict.fromkeys(name for text in known for name in drawable(text)))


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
