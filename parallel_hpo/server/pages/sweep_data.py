"""A sweep's or a project's runs for all open pages, as JSON columns and CSV, and the axes of the parameters.

The runs are read once, then updated: at most every `FRESH_S`, for any number of pages, and only runs that may
have changed. A page sends the revision that it has, and gets the rows that changed after it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from parallel_hpo.records.reader import LedgerRun
from parallel_hpo.server import engines
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.pages.answers import dump, object_of
from parallel_hpo.server.pages.run_data import FACTS, LedgerCache, Row, SweepCount, drawable, row_of
from parallel_hpo.server.rules.runs import OPEN, RunState
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import run_table, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Project, Sweep
from parallel_hpo.server.store.run_table import RunScope, TableRun
from parallel_hpo.server.store.tables import only_sweep
from parallel_hpo.server.values import RefusedError

FRESH_S: Final = 0.25
"""Maximum age of a page's data, in seconds."""
_KEYS_FRESH_S: Final = 2.0
_RUNS_FOR_KEYS: Final = 20
"""Number of first and of last runs whose history keys are read."""
_STATE: Final = FACTS.index("state")
_VALUE: Final = FACTS.index("value")
_OPEN: Final = frozenset(str(state) for state in OPEN)


@dataclass(slots=True)
class _Kept:
    seen: TableRun
    known: LedgerRun | None
    row: Row
    changed: int
    """Table revision at which the row last changed."""


@dataclass(frozen=True, slots=True)
class RunChanges:
    """Rows of runs: all of them (`complete`), else those that changed after the requested revision."""

    rows: list[Row]
    revision: str
    complete: bool
    best: str | None
    """Id of the finished run with the best value."""
    keys: tuple[tuple[str, str], ...]
    """The history keys and summaries of some runs, as JSON."""


class RunTable:
    """Cached rows of the runs of a sweep or project; thread-safe."""

    def __init__(self, which: RunScope, *, fresh_s: float = FRESH_S) -> None:
        self._which = which
        self._fresh_s = fresh_s
        self._lock = Lock()
        self._ledger: Mapping[str, LedgerRun] = {}
        self._reset(None)

    def changes_since(
        self,
        transaction: Transaction,
        wanted: Metric | None,
        since: str,
        ledger: Mapping[str, LedgerRun] = MappingProxyType({}),
    ) -> RunChanges:
        """Return the rows that changed since a revision returned earlier; all rows for ''.

        `ledger`: the sweep's runs in the ledgers of this machine.
        """
        with self._lock:
            if wanted != self._metric:
                self._reset(wanted)
            if time.monotonic() - self._updated_at >= self._fresh_s:
                self._update(transaction, ledger)
            name, _, number = since.partition("-")
            now = f"{self._name}-{self._revision}"
            if name != self._name or not number.isdigit():
                rows = [kept.row for kept in self._runs.values()]
                return RunChanges(rows, now, complete=True, best=self._best, keys=self._keys)
            rows = list(self._changed_after(int(number)))
            return RunChanges(rows, now, complete=False, best=self._best, keys=self._keys)

    def _changed_after(self, revision: int) -> Iterator[Row]:
        """Return the rows that changed after a table revision, in the order of the runs."""
        keys = set[int]()
        for number, key in reversed(self._changes):
            if number <= revision:
                break
            keys.add(key)
        return (self._runs[key].row for key in sorted(keys))

    def _reset(self, wanted: Metric | None) -> None:
        self._metric = wanted
        self._name = uuid4().hex[:8]
        self._runs: dict[int, _Kept] = {}
        self._open = set[int]()
        self._changes: list[tuple[int, int]] = []
        """(Table revision, run) of changes, newest last; contains at least the last change of each run."""
        self._revision = 0
        self._revisions_read: dict[str | None, int] = {}
        """Newest revision in the database that was read, of each sweep and of the runs without one."""
        self._updated_at = self._read_keys_at = float("-inf")
        self._keys: tuple[tuple[str, str], ...] = ()
        self._best: str | None = None

    def _update(self, transaction: Transaction, ledger: Mapping[str, LedgerRun]) -> None:
        self._updated_at = time.monotonic()
        before, self._ledger = self._ledger, ledger
        if self._runs:
            newest = next(reversed(self._runs))
            found = run_table.maybe_changed(
                transaction, self._which, self._revisions_read, newest, self._open
            )
            self._take(list(found))
            if ledger is not before:
                kept = list(self._runs.values())
                self._take(each.seen for each in kept if each.known != ledger.get(each.seen.name))
        # At the first read, or after runs were deleted:
        if len(self._runs) != run_table.number_of(transaction, self._which):
            self._reset(self._metric)
            self._updated_at = time.monotonic()
            self._take(run_table.all_of(transaction, self._which))
        if time.monotonic() - self._read_keys_at >= _KEYS_FRESH_S:
            self._read_keys_at = time.monotonic()
            self._keys = tuple(run_table.logged_names(transaction, self._which, _RUNS_FOR_KEYS))

    def _take(self, found: Iterable[TableRun]) -> None:
        revision = self._revision + 1
        for seen in found:
            read = self._revisions_read
            read[seen.sweep_id] = max(read.get(seen.sweep_id, 0), seen.revision)
            (self._open.add if seen.state in _OPEN else self._open.discard)(seen.id)
            kept = self._runs.get(seen.id)
            known = self._ledger.get(seen.name)
            if kept is not None and (kept.seen, kept.known) == (seen, known):
                continue
            row = row_of(seen, self._metric, known)
            if kept is None or kept.row != row:
                self._runs[seen.id] = _Kept(seen, known, row, revision)
                self._changes.append((revision, seen.id))
                self._revision = revision
            else:
                kept.seen, kept.known = seen, known
        if self._revision == revision:
            self._best = self._find_best()
            if len(self._changes) > 4 * len(self._runs):
                self._changes = sorted((kept.changed, key) for key, kept in self._runs.items())

    def _find_best(self) -> str | None:
        if self._metric is None:
            return None
        facts = (kept.row.facts for kept in self._runs.values())
        rows = (each for each in facts if each[_STATE] == RunState.FINISHED and each[_VALUE] is not None)
        choose = max if self._metric.goal is Goal.MAXIMIZE else min
        found = choose(rows, key=lambda facts: facts[_VALUE], default=None)
        return None if found is None else str(found[0])


_HALF_WIDTH: float = 3.0
"""Half the width of a normal distribution's axis, in standard deviations."""


def axis(parameter: Parameter) -> dict[str, Any]:
    """Return the axis of a parameter: name, kind, bounds (None if unknown), whether it is logarithmic."""
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
            return math.exp(mu - _HALF_WIDTH * sigma), math.exp(mu + _HALF_WIDTH * sigma)
        case Constant() | Categorical():
            return None, None
    return (
        distribution.mu - _HALF_WIDTH * distribution.sigma,
        distribution.mu + _HALF_WIDTH * distribution.sigma,
    )


_MAX_SWEEPS: Final = 16
"""Maximum number of cached sweeps; one with 10,000 runs takes 20 MB."""
_LEDGERS_FRESH_S: Final = 2.0
_HEAD: Final = "parameters."
_SUMMARY: Final = "summary."
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class SummaryChoice:
    """What a page shows of runs' summaries."""

    compared: Metric | None = None
    """The value by which runs are compared; None: the sweep's metric."""
    logged: tuple[str, ...] = ()
    """The values that are columns."""


class Sweeps:
    """JSON and CSV of sweeps and projects; thread-safe."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._tables: OrderedDict[RunScope, RunTable] = OrderedDict()
        self._ledgers = LedgerCache(fresh_s=_LEDGERS_FRESH_S)
        self._lock = Lock()

    def sweep_json(
        self, world: AppContext, at: SweepAt, since: str, choice: SummaryChoice = SummaryChoice()
    ) -> bytes:
        """Return a sweep and its runs changed since a revision; RefusedError (404) if it doesn't exist."""
        sweep, totals, changes = self._changes_of(world, at, since, choice)
        return _document(sweep, totals, changes, choice)

    def sweep_csv(self, world: AppContext, at: SweepAt, choice: SummaryChoice = SummaryChoice()) -> bytes:
        """Return a sweep's runs as CSV, one line each."""
        sweep, _, changes = self._changes_of(world, at, "", choice)
        return _as_csv(changes.rows, _names_of(sweep, changes.rows), choice.logged)

    def _changes_of(
        self, world: AppContext, at: SweepAt, since: str, choice: SummaryChoice
    ) -> tuple[Sweep, SweepCount, RunChanges]:
        compared = choice.compared
        totals = self._ledgers.count_of(world, at)
        with world.database.read() as transaction:
            sweep = sweep_at(transaction, at)
            by = None if compared is None else (compared.name, str(compared.goal))
            table = self._of(transaction, RunScope(sweep.project_id, sweep.id, by, choice.logged))
            wanted = compared or engines.metric_of(sweep.config)
            return sweep, totals, table.changes_since(transaction, wanted, since, totals.runs)

    def repeated(self, world: AppContext, at: SweepAt) -> list[str]:
        """Return the runs of a sweep that had several attempts, by the ledgers of this machine."""
        return [name for name, run in self._ledgers.count_of(world, at).runs.items() if run.attempts > 1]

    def project_json(
        self, world: AppContext, project: Project, its_sweeps: list[dict[str, Any]], since: str
    ) -> bytes:
        """Return a project's sweeps and its runs that changed since a revision."""
        with world.database.read() as transaction:
            changes = self._of(transaction, RunScope(project.id)).changes_since(transaction, None, since)
        names = list(dict.fromkeys(name for row in changes.rows for name in row.parameters))
        return object_of(
            {
                "sweeps": dump(its_sweeps),
                "runs": _columns(changes.rows, names),
                "revision": dump(changes.revision),
                "complete": dump(changes.complete),
            }
        )

    def _of(self, transaction: Transaction, which: RunScope) -> RunTable:
        if only_sweep(transaction) is not None:  # a caller with access to one sweep must see no other
            return RunTable(which, fresh_s=self._fresh_s)
        with self._lock:
            table = self._tables.setdefault(which, RunTable(which, fresh_s=self._fresh_s))
            self._tables.move_to_end(which)
            while len(self._tables) > _MAX_SWEEPS:
                self._tables.popitem(last=False)
            return table


def sweep_at(transaction: Transaction, at: SweepAt) -> Sweep:
    """Return the sweep at an address; RefusedError (404) if it doesn't exist."""
    sweep = sweeps.find(transaction, at.sweep)
    if sweep is None or (sweep.entity, sweep.project) != (at.entity, at.project):
        raise RefusedError(f"sweep {at.entity}/{at.project}/{at.sweep} doesn't exist", status=404)
    return sweep


def names_logged(transaction: Transaction, sweep: Sweep) -> tuple[str, ...]:
    """Return the names of texts and numbers in the summaries of a sweep's first and last runs."""
    which = RunScope(sweep.project_id, sweep.id)
    return _logged(tuple(run_table.logged_names(transaction, which, _RUNS_FOR_KEYS)))


def head_of(sweep: Sweep) -> dict[str, Any]:
    """Return a sweep's own fields, without its runs."""
    name, count, metric = _described(sweep.config)
    return {
        "id": sweep.id,
        "name": sweep.display_name or name or sweep.id,
        "entity": sweep.entity,
        "project": sweep.project,
        "state": str(sweep.state),
        "method": sweep.method,
        "created": sweep.created_at,
        "count": count,
        "metric": _named(metric),
    }


@lru_cache(1000)
def _described(configuration: str) -> tuple[str | None, int | None, Metric | None]:
    """Return the name, the maximum number of runs (None if unlimited), and the metric of a configuration."""
    return (
        engines.name_of(configuration),
        engines.expected_runs(configuration),
        engines.metric_of(configuration),
    )


def _named(metric: Metric | None) -> dict[str, str] | None:
    return None if metric is None else {"name": metric.name, "goal": str(metric.goal)}


def _document(sweep: Sweep, totals: SweepCount, changes: RunChanges, choice: SummaryChoice) -> bytes:
    space = space_of(sweep.config)
    count = {"count": totals.count} if totals.is_known else {}
    head = head_of(sweep)
    head |= {"objective": head["metric"], "metric": _named(choice.compared) or head["metric"]}
    parts = {
        "sweep": dump(head | count | {"used": totals.used}),
        "parameters": dump(space),
        "runs": _columns(changes.rows, _names_of(sweep, changes.rows), choice.logged),
        "workers": dump(list(totals.workers)),
        "keys": dump(list(_drawable(changes.keys))),
        "logged": dump(list(_logged(changes.keys))),
        "best": dump(changes.best),
        "revision": dump(changes.revision),
        "complete": dump(changes.complete),
    }
    return object_of(parts)


def _names_of(sweep: Sweep, rows: Sequence[Row]) -> list[str]:
    """Return all parameter names: first those of the configuration, then others that runs have."""
    known = (axis["name"] for axis in space_of(sweep.config))
    return list(dict.fromkeys([*known, *(name for row in rows for name in row.parameters)]))


def _columns(rows: Sequence[Row], parameters: Iterable[str], logged: Iterable[str] = ()) -> bytes:
    """Encode rows as JSON column by column: other threads can run between two calls of the encoder."""
    facts = {name: dump([row.facts[place] for row in rows]) for place, name in enumerate(FACTS)}
    given = {name: dump([_plain(row.parameters.get(name)) for row in rows]) for name in parameters}
    own = {name: dump([_plain(row.logged.get(name)) for row in rows]) for name in logged}
    return object_of(facts | {"parameters": object_of(given), "logged": object_of(own)})


def _as_csv(rows: Sequence[Row], parameters: Sequence[str], logged: Sequence[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*FACTS, *(_HEAD + name for name in parameters), *(_SUMMARY + name for name in logged)])
    for row in rows:
        given = (row.parameters.get(name) for name in parameters)
        own = (row.logged.get(name) for name in logged)
        writer.writerow([_cell(value) for value in (*row.facts, *given, *own)])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """Return a value for a spreadsheet, escaped if it is text that would be a formula."""
    if isinstance(value, bool | list | dict):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


@lru_cache(_MAX_SWEEPS)
def space_of(configuration: str) -> list[dict[str, Any]]:
    """Return the axes of a configuration's parameters."""
    return [axis(parameter) for parameter in engines.parse(configuration).parameters]


@lru_cache(_MAX_SWEEPS)
def _drawable(known: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """Return the keys under which runs logged numbers."""
    return tuple(dict.fromkeys(name for text, _ in known for name in drawable(text)))


@lru_cache(_MAX_SWEEPS)
def _logged(known: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """Return the names of texts and numbers in summaries, without the client's own."""
    found = (item for _, text in known for item in json.loads(text).items() if not item[0].startswith("_"))
    return tuple(
        sorted({name for name, value in found if run_table.shown_value(value, "minimize") is not None})
    )


def _plain(value: Any) -> Any:
    """Return a value, or None for a float that JSON can't represent."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
