"""Lists of a project's runs by filters and order, page by page: in SQL as far as possible, else in Python.

    filters, order ──▶ SQL decides everything ──▶ the page's ids
                  └──▶ else: SQL selects ──▶ `filters` judges the rest and sorts ──▶ all ids, cached

SQL decides clauses about texts and times of columns, and orders by times.

Cached ids make pages consistent: later pages continue the first page's list, whatever has changed since.
Without them (dropped, or in another process) the list is made again, and the page begins at its offset.
"""

from __future__ import annotations

import json
import re
import sqlite3
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, cast
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    and_,
    case,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)

from parallel_hpo.server.store.filters import (
    COMPARISONS,
    RunFacts,
    SortKey,
    is_number,
    names_in,
    needs_of,
    passes,
    seconds,
    sort_by,
    sort_keys,
)
from parallel_hpo.server.store.records import CLIENT_COLUMNS
from parallel_hpo.server.store.tables import count, runs, seen

_MAX_CHARS: Final = 4_000
"""Maximum length of filters in SQL, as databases limit expressions and values; Python judges longer ones."""
_MAX_NUMBER: Final = 2**53
"""Smaller integers are exact as floats."""


def split(filters: Mapping[str, Any]) -> tuple[ColumnElement[bool], Mapping[str, Any]]:
    """Return an SQL condition and other filters, which together say what the filters say.

    SQL gets clauses about columns with texts or times. RefusedError for an unknown name.
    """
    if list(names_in(filters)) and len(json.dumps(filters)) > _MAX_CHARS:
        return true(), filters
    conditions: list[ColumnElement[bool]] = [true()]
    left = []
    for key, wanted in _clauses(filters):
        condition = _either(wanted) if key == "$or" else _condition(key, wanted)
        if condition is None:
            left.append({key: wanted})
        else:
            conditions.append(condition)
    return and_(*conditions), {"$and": left} if left else {}


def _clauses(filters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names with a value or one operator, and the other operators, that a run must all meet."""
    for key, wanted in filters.items():
        if key == "$and":
            for item in wanted:
                yield from _clauses(item)
        elif key in CLIENT_COLUMNS and isinstance(wanted, dict):
            yield from ((key, {name: operand}) for name, operand in wanted.items())
        else:
            yield key, wanted


def _either(alternatives: Sequence[Mapping[str, Any]]) -> ColumnElement[bool] | None:
    parts = [split(filters) for filters in alternatives]
    return None if any(left for _, left in parts) else or_(false(), *(where for where, _ in parts))


def _condition(key: str, wanted: Any) -> ColumnElement[bool] | None:
    """Return a clause in SQL; None: it is left to `passes`."""
    if key not in CLIENT_COLUMNS or key == "tags":
        return None
    ((name, operand),) = wanted.items() if isinstance(wanted, dict) else [("$eq", wanted)]
    if _is_time(key):
        at: Any = seconds(operand) if isinstance(operand, str) else operand
        if name not in COMPARISONS or not is_number(at) or not abs(at) < _MAX_NUMBER:
            return None
        return cast(ColumnElement[bool], COMPARISONS[name](_column(key), at))
    texts = [operand] if name in ("$eq", "$ne") else operand if name in ("$in", "$nin") else None
    if not isinstance(texts, list) or not all(map(_can_be_stored, texts)):
        return None
    value = _column(key)
    if key in ("displayName", "display_name"):
        value = func.coalesce(func.nullif(value, ""), runs.c.name)
    found = value.in_(texts) if len(texts) != 1 else value == texts[0]
    return found if name in ("$eq", "$in") else or_(value.is_(None), not_(found))


def order_by(order: Sequence[SortKey]) -> list[ColumnElement[Any]] | None:
    """Return an order by times in SQL, ties oldest first; None for any other order."""
    if not all(key.name in CLIENT_COLUMNS and _is_time(key.name) for key in order):
        return None
    columns = [(_column(key.name), key.descending) for key in order]
    return [*(column.desc() if descending else column for column, descending in columns), runs.c.id]


def _is_time(key: str) -> bool:
    """Return whether a column holds times, which are never null."""
    return isinstance(_column(key).type, Float)


def _column(key: str) -> ColumnElement[Any]:
    return runs.c[CLIENT_COLUMNS[key]]


def _can_be_stored(text: Any) -> bool:
    try:
        return isinstance(text, str) and "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        return False


_MAX_LISTINGS: Final = 64
"""Number of cached listings; of 10,000 runs each they take 5 MB."""

_ROWS_PER_FETCH: Final = 500


@dataclass(frozen=True, slots=True)
class ListingScope:
    """The runs of a listing: a project's, by filters; of one sweep only if the caller sees no other."""

    project_id: int
    only_sweep: str | None
    filters: str | None


@dataclass(frozen=True, slots=True)
class CachedListing:
    """The ids of all runs of a listing, in order."""

    name: str
    scope: ListingScope
    order: str | None
    ids: Sequence[int]


class ListingCache:
    """The most recently used listings; thread-safe."""

    def __init__(self) -> None:
        self._listings: OrderedDict[str, CachedListing] = OrderedDict()
        self._lock = Lock()

    def add(self, scope: ListingScope, order: str | None, ids: Sequence[int]) -> CachedListing:
        """Add a listing under a new name."""
        listing = CachedListing(uuid4().hex, scope, order, array("q", ids))
        with self._lock:
            self._listings[listing.name] = listing
            while len(self._listings) > _MAX_LISTINGS:
                self._listings.popitem(last=False)
        return listing

    def find(self, name: str, scope: ListingScope) -> CachedListing | None:
        """Return the listing of this name if it is cached and has this scope."""
        with self._lock:
            listing = self._listings.get(name)
            if listing is None or listing.scope != scope:
                return None
            self._listings.move_to_end(name)
            return listing


@dataclass(frozen=True, slots=True)
class RunQuery:
    """A project and the filters of its runs."""

    project_id: int
    filters: Mapping[str, Any]


def count_in_sql(connection: Connection, wanted: RunQuery) -> int | None:
    """Count the runs in SQL, or return None if SQL can't."""
    where, left = split(wanted.filters)
    return None if left else count(connection, runs, _here(connection, wanted, where))


def page_ids(
    connection: Connection, wanted: RunQuery, order: Sequence[SortKey], begin: int, number: int
) -> list[int] | None:
    """Return the ids of `number` runs from offset `begin` in an order, or None if SQL can't."""
    (where, left), by = split(wanted.filters), order_by(order)
    if left or by is None:
        return None
    query = select(runs.c.id).where(_here(connection, wanted, where))
    return list(connection.scalars(query.order_by(*by).offset(begin).limit(number)))


def all_ids(
    connection: Connection, wanted: RunQuery, order: Sequence[SortKey], check: Callable[[], None]
) -> list[int]:
    """Return the ids of all runs in an order, filtered and sorted in Python; calls `check` for each run."""
    where, left = split(wanted.filters)
    names = {*(key.name for key in order), *names_in(left)}
    columns = (_reduced(connection, name, entries) for name, entries in needs_of(names).items())
    query = select(runs.c.id, *columns).where(_here(connection, wanted, where)).order_by(runs.c.id)
    found = []
    for rows in connection.execute(query).partitions(_ROWS_PER_FETCH):
        for row in rows:
            check()
            facts = RunFacts(row._mapping.__getitem__)
            if passes(facts, left):
                found.append((row.id, sort_keys(facts, order)))
    return sort_by(found, order)


def _here(connection: Connection, wanted: RunQuery, where: ColumnElement[bool]) -> ColumnElement[bool]:
    return (runs.c.project_id == wanted.project_id) & seen(connection) & where


_PLAIN: Final = re.compile(r"[A-Za-z0-9_./ -]+")
"""Keys that SQLite finds in a text without backslashes."""


def _reduced(connection: Connection, name: str, entries: Iterable[str]) -> ColumnElement[Any]:
    """Return a column; of a JSON object only some entries, if SQLite reads it as Python does.

    Reading whole texts takes Python half as long again. SQLite doesn't read NaN and Infinity.
    """
    column = runs.c[name]
    if name not in ("config", "summary") or not all(map(_PLAIN.fullmatch, entries)):
        return column
    if connection.dialect.name != "sqlite" or sqlite3.sqlite_version_info < (3, 38):
        return column
    text: ColumnElement[str] = literal("")
    for entry in entries:
        value = column.op("->")(literal(f'$."{entry}"'))
        text = text.concat(func.coalesce(literal(f'"{entry}":').concat(value).concat(","), ""))
    is_readable = and_(func.instr(column, "\\") == 0, func.json_valid(column) == 1)
    reduced = literal("{").concat(func.rtrim(text, ",")).concat("}")
    return case((is_readable, reduced), else_=column).label(name)
