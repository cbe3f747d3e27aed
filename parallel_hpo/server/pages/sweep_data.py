"""The runs of a sweep or a project as their pages show them: JSON of columns, and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any, Final

from parallel_hpo.server.engines import configurations
from parallel_hpo.server.pages.answers import dump, object_of
from parallel_hpo.server.pages.ledgers import Ledgers, SweepCount
from parallel_hpo.server.pages.rows import FACTS, Row
from parallel_hpo.server.pages.run_data import drawable
from parallel_hpo.server.pages.spaces import axis
from parallel_hpo.server.pages.watched import News, Watched
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.queries import only_sweep
from parallel_hpo.server.store.records import Project, Sweep
from parallel_hpo.server.store.watching import Which
from parallel_hpo.server.world import World

_KEPT: Final = 16
"""So many sweeps are kept in mind at once; of 10,000 runs each takes 20 MB."""
_LEDGERS_FRESH_S: Final = 2.0
_HEAD: Final = "parameters."
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Sweeps:
    """The sweeps that pages show; any thread may ask."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._watched: OrderedDict[Which, Watched] = OrderedDict()
        self._ledgers = Ledgers(fresh_s=_LEDGERS_FRESH_S)
        self._lock = Lock()

    def sweep_json(self, world: World, at: SweepAt, since: str) -> bytes:
        """Return a sweep, and its runs that changed since a revision; RefusedError (404): there is none."""
        sweep, asked, news = self._news(world, at, since)
        return _document(sweep, asked, news)

    def sweep_csv(self, world: World, at: SweepAt) -> bytes:
        """Return a sweep's runs as a table for spreadsheets, one line each."""
        sweep, _, news = self._news(world, at, "")
        return _as_csv(news.rows, _names_of(sweep, news.rows))

    def _news(self, world: World, at: SweepAt, since: str) -> tuple[Sweep, SweepCount, News]:
        asked = self._ledgers.asked_of(world, at)
        with world.database.read() as transaction:
            sweep = sweep_at(transaction, at)
            watched = self._of(transaction, Which(sweep.project_id, sweep.id))
            wanted = configurations.metric_of(sweep.config)
            return sweep, asked, watched.news(transaction, wanted, since, asked.attempts)

    def project_json(
        self, world: World, project: Project, its_sweeps: list[dict[str, Any]], since: str
    ) -> bytes:
        """Return a project's sweeps, and its runs that changed since a revision."""
        with world.database.read() as transaction:
            news = self._of(transaction, Which(project.id)).news(transaction, None, since)
        names = list(dict.fromkeys(name for row in news.rows for name in row.parameters))
        return object_of(
            {
                "sweeps": dump(its_sweeps),
                "runs": _columns(news.rows, names),
                "revision": dump(news.revision),
                "complete": dump(news.complete),
            }
        )

    def _of(self, transaction: Transaction, which: Which) -> Watched:
        if only_sweep(transaction) is not None:  # one who sees a part only must not be shown the whole
            return Watched(which, fresh_s=self._fresh_s)
        with self._lock:
            watched = self._watched.setdefault(which, Watched(which, fresh_s=self._fresh_s))
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
    wanted = configurations.metric_of(sweep.config)
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


def _document(sweep: Sweep, asked: SweepCount, news: News) -> bytes:
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
    return [axis(parameter) for parameter in configurations.parse(configuration).parameters]


@lru_cache(256)
def expected_runs(configuration: str) -> int | None:
    """Return how many runs a sweep can have; None: no limit."""
    return configurations.expected_runs(configuration)


@lru_cache(_KEPT)
def _drawable(known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys under which runs logged numbers."""
    return tuple(dict.fromkeys(name for text in known for name in drawable(text)))


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
