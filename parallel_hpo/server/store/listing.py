"""Which runs a project has for some filters, in an order, page by page; whole runs are read of a page only.

filters, order ──▶ `conditions`: SQL says it all ──────────▶ the page's ids
              └──▶ ids and what is asked of each run ──▶ `filters` judges and sorts ──▶ all ids

All ids are kept from a page to the next, as they cost a look at each run: whoever goes on gets what
followed when they began, whatever was changed since, none twice, none left out. Ids that are no longer
kept, or were kept by another server process, are found again, and the page begins at its place in that.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, null, select

from parallel_hpo.server.store import json_parts
from parallel_hpo.server.store.conditions import condition, order_by
from parallel_hpo.server.store.filters import SortKey, names_in, ordered, passes, places_of
from parallel_hpo.server.store.queries import count, seen
from parallel_hpo.server.store.run_facts import Needs, needs_of
from parallel_hpo.server.store.tables import runs

_KEPT: Final = 64
"""Of 10,000 runs each, they take 5 MB."""

_AT_ONCE: Final = 500


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


@dataclass(frozen=True, slots=True)
class Question:
    """Which runs of which project are asked for."""

    project_id: int
    filters: Mapping[str, Any]


class Candidate:
    """A run that may be one of those, and what was asked of it."""

    __slots__ = ("_columns", "config", "id", "summary")

    def __init__(self, needs: Needs, row: Row[Any]) -> None:
        key, config, summary, *_ = tuple(row)
        self.id: int = key
        self.config = json_parts.read(config, needs.config) if needs.config else {}
        self.summary = json_parts.read(summary, needs.summary) if needs.summary else {}
        self._columns = row._mapping

    def column(self, name: str) -> Any:
        """Return a column's value."""
        return self._columns[name]


def total(connection: Connection, question: Question) -> int | None:
    """Count the runs, or return None where they must be judged one by one."""
    where = condition(question.filters, connection)
    return count(connection, runs, _here(connection, question, where.sql)) if where.exact else None


def part(
    connection: Connection, question: Question, order: Sequence[SortKey], begin: int, number: int
) -> list[int] | None:
    """Return the ids of `number` of the runs in an order, or None where they must be judged one by one."""
    where, by = condition(question.filters, connection), order_by(order, connection)
    if by is None or not where.exact:
        return None
    query = select(runs.c.id).where(_here(connection, question, where.sql))
    return list(connection.scalars(query.order_by(*by).offset(begin).limit(number)))


def judged(
    connection: Connection, question: Question, order: Sequence[SortKey], check: Callable[[], None]
) -> list[int]:
    """Return the ids of all the runs in an order, judged and sorted here; `check` is called for each run."""
    where = condition(question.filters, connection)
    names = [key.name for key in order]
    if not where.exact:
        names += names_in(question.filters)
    found = []
    for run in _candidates(connection, _here(connection, question, where.sql), needs_of(names)):
        check()
        if where.exact or passes(run, question.filters):
            found.append((run.id, places_of(run, order)))
    return ordered(found, order)


def _here(connection: Connection, question: Question, where: ColumnElement[bool]) -> ColumnElement[bool]:
    return (runs.c.project_id == question.project_id) & seen(connection) & where


def _candidates(connection: Connection, where: ColumnElement[bool], needs: Needs) -> Iterator[Candidate]:
    """Yield what is needed of the runs that meet a condition, in the order in which they were made."""
    nothing = null()
    query = (
        select(
            runs.c.id,
            json_parts.picked(connection, runs.c.config, needs.config) if needs.config else nothing,
            json_parts.picked(connection, runs.c.summary, needs.summary) if needs.summary else nothing,
            *(runs.c[name] for name in needs.columns),
        )
        .where(where)
        .order_by(runs.c.id)
    )
    for rows in connection.execute(query).partitions(_AT_ONCE):
        for row in rows:
            yield Candidate(needs, row)
