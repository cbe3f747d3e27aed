"""Lists of a project's runs by filters and order, page by page: in SQL as far as possible, else in Python.

    filters, order ──▶ SQL covers everything ────────────────────────────────▶ the page's ids
                  └──▶ ids and the needed facts ──▶ `filters` selects and sorts ──▶ all ids, cached

SQL covers columns. Conditions on JSON, patterns and lists are left to `filters`; a condition here never
excludes a run that passes there.

The database extracts the needed entries of a JSON column, as reading whole texts takes Python too long:

    '{"lr": …, "loss": NaN, …}' ──▶ '[["\u0001NaN", null]]' ──▶ {"loss": nan}

A text that the database may read differently from Python is read whole: one with escapes that may hide a
key, or with more bare words (NaN, Infinity) than values of keys.

Cached ids make pages consistent: later pages continue the first page's list, whatever has changed since.
Without them (dropped, or in another process) the list is made again, and the page begins at its offset.
"""

from __future__ import annotations

import json
import math
import operator
import re
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Row,
    and_,
    case,
    collate,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    true,
)

from parallel_hpo.server.store.filters import (
    FieldNeeds,
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

_MAX_PARTS: Final = 200
"""Maximum number of a filter's parts in SQL, as databases limit expressions; Python takes longer ones."""
_MAX_TEXT_BYTES: Final = 10_000

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter's SQL condition: every run that passes meets it; if `exact`, no other run does."""

    sql: ColumnElement[bool]
    exact: bool = True


_ANY: Final = Condition(true(), exact=False)
_ALWAYS: Final = Condition(true())
_NEVER: Final = Condition(false())


def condition(filters: Mapping[str, Any], connection: Connection) -> Condition:
    """Return the SQL condition of filters."""
    return _Compiler(connection).all_of(filters) if _parts(filters) <= _MAX_PARTS else _ANY


def order_by(order: Iterable[SortKey], connection: Connection) -> list[ColumnElement[Any]] | None:
    """Return an order in SQL, nulls last and ties oldest first; None if SQL can't do it."""
    found: list[ColumnElement[Any]] = []
    for key in order:
        if key.name not in CLIENT_COLUMNS:
            return None
        if key.name == "tags":
            continue  # lists have no order
        column = _column(key.name)
        if column.nullable:
            found.append(_value(key.name).is_(None))
        value = _sortable(key.name, connection)
        found.append(value.desc() if key.descending else value.asc())
    return [*found, runs.c.id]


class _Compiler:
    """Translates clauses with the meaning that `filters` has."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all_of(self, filters: Any) -> Condition:
        if not isinstance(filters, dict):
            return _ANY
        return _and(self._clause(key, wanted) for key, wanted in filters.items())

    def _clause(self, key: str, wanted: Any) -> Condition:
        if key in ("$and", "$or", "$nor"):
            parts = [self.all_of(item) for item in wanted] if isinstance(wanted, list) else [_ANY]
            return _and(parts) if key == "$and" else _or(parts) if key == "$or" else _not(_or(parts))
        if key == "$not":
            return _not(self.all_of(wanted))
        if key not in CLIENT_COLUMNS:
            return _ANY
        if isinstance(wanted, dict):
            return _and(self._operator(key, name, operand) for name, operand in wanted.items())
        return _equals(key, wanted)

    def _operator(self, key: str, name: str, operand: Any) -> Condition:
        match name:
            case "$eq":
                return _equals(key, operand)
            case "$ne":
                return _not(_equals(key, operand))
            case "$in" | "$nin" if isinstance(operand, list):
                found = _or(_equals(key, item) for item in operand)
                return found if name == "$in" else _not(found)
            case "$exists":
                return _ALWAYS if operand else _NEVER
            case "$not" if isinstance(operand, dict):
                return _not(_and(self._operator(key, inner, item) for inner, item in operand.items()))
            case "$gt" | "$gte" | "$lt" | "$lte" if key != "tags":
                return self._compare(key, name, operand)
        return _ANY

    def _compare(self, key: str, name: str, operand: Any) -> Condition:
        is_time = isinstance(_column(key).type, Float)
        if is_time and isinstance(operand, str):
            operand = seconds(operand)
        if not (is_number(operand) if is_time else isinstance(operand, str)):
            return _NEVER
        if is_time and operand != operand:
            return _NEVER
        if not (_is_float(operand) if is_time else _can_be_stored(operand)):
            return _ANY
        compared = _COMPARISONS[name](_sortable(key, self._connection), operand)
        return Condition(and_(_value(key).is_not(None), compared))


def _and(parts: Iterable[Condition]) -> Condition:
    known = list(parts)
    return Condition(and_(true(), *(part.sql for part in known)), all(part.exact for part in known))


def _or(parts: Iterable[Condition]) -> Condition:
    known = list(parts)
    return Condition(or_(false(), *(part.sql for part in known)), all(part.exact for part in known))


def _not(part: Condition) -> Condition:
    """Return the opposite; that of an inexact condition excludes nothing."""
    return Condition(not_(part.sql)) if part.exact else _ANY


def _equals(key: str, wanted: Any) -> Condition:
    if key == "tags":
        return _has_tag(wanted) if isinstance(wanted, str) else _ANY
    value = _value(key)
    if wanted is None:
        return Condition(value.is_(None))
    if isinstance(_column(key).type, Float):
        return Condition(value == float(wanted)) if _is_float(wanted) else _NEVER
    if not isinstance(wanted, str):
        return _NEVER
    # Never null, so that its opposite is true for a run without a value.
    return Condition(and_(value.is_not(None), value == wanted)) if _can_be_stored(wanted) else _ANY


def _has_tag(tag: str) -> Condition:
    """Return whether the list's JSON contains the tag's; inexact, as it may be within another tag."""
    text = json.dumps(tag)
    return Condition(runs.c.tags.contains(text, autoescape=True), exact=False) if len(text) < 1000 else _ANY


def _column(key: str) -> Any:
    return runs.c[CLIENT_COLUMNS[key]]


def _value(key: str) -> ColumnElement[Any]:
    column = _column(key)
    return func.coalesce(func.nullif(column, ""), runs.c.name) if column.name == "display_name" else column


def _sortable(key: str, connection: Connection) -> ColumnElement[Any]:
    """Return a value with Python's order: texts by code points, not by a language."""
    is_text = not isinstance(_column(key).type, Float)
    if is_text and connection.dialect.name == "postgresql":
        return collate(_value(key), "C")
    return _value(key)


def _is_float(operand: Any) -> bool:
    """Return whether a database stores a number exactly."""
    try:
        return isinstance(operand, int | float) and math.isfinite(operand) and float(operand) == operand
    except OverflowError:
        return False


def _can_be_stored(text: str) -> bool:
    try:
        return "\0" not in text and len(text.encode()) <= _MAX_TEXT_BYTES
    except UnicodeEncodeError:
        return False


def _parts(filters: Any) -> int:
    if isinstance(filters, dict):
        return 1 + sum(map(_parts, filters.values()))
    return 1 + sum(map(_parts, filters)) if isinstance(filters, list) else 1


_PLAIN: Final = re.compile(r"[A-Za-z0-9_./ -]+")
"""Keys that every SQLite version finds in a text without escapes."""
_NOWHERE: Final = '$."\x01"'
"""A second path, so that SQLite returns a JSON list rather than an SQL value."""
_WORDS: Final = ("NaN", "Infinity", "-Infinity")
_MARK: Final = "\\u0001"
"""Prefix of a bare word that was made a string; no other string of a text without escapes begins so."""


def picked(connection: Connection, column: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[str]:
    """Return an SQL expression for a text from which `read` gets at least these entries of a JSON column."""
    if connection.dialect.name == "postgresql":
        return _picked_by_postgresql(column, keys)
    return _picked_by_sqlite(column, keys)


def read(text: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """Return the entries in a text of `picked`; missing ones are left out."""
    if not text.startswith("["):
        whole: Mapping[str, Any] = json.loads(text)
        return whole
    if _MARK in text:
        for word in _WORDS:
            text = text.replace(f'"{_MARK}{word}"', word)
    return {key: part[0] for key, part in zip(keys, json.loads(text), strict=True) if part}


def _picked_by_sqlite(column: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[str]:
    if not all(_PLAIN.fullmatch(key) for key in keys):
        return column
    escapes = ("\\u", "\\/") if any("/" in key for key in keys) else ("\\u",)
    readable = and_(*(func.instr(column, escape) == 0 for escape in escapes))
    worded = _with_words_as_strings(column)
    return case(
        (and_(readable, func.json_valid(column) == 1), _list_of(column, keys)),
        (and_(readable, func.json_valid(worded) == 1), _list_of(worded, keys)),
        else_=column,
    )


def _list_of(document: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[str]:
    text: ColumnElement[str] = literal("[")
    for number, key in enumerate(keys):
        path = f'$."{key}"'
        entry = case(
            (func.json_type(document, path).is_(None), "0"),
            else_=func.json_extract(document, path, _NOWHERE),
        )
        text = text.concat(literal(",") if number else literal("")).concat(entry)
    return text.concat("]")


def _picked_by_postgresql(column: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[str]:
    try:
        names = json.dumps(keys, ensure_ascii=False)
        names.encode()
    except UnicodeEncodeError:
        return column
    has_words = or_(*(func.strpos(column, word) > 0 for word in ("NaN", "Infinity")))
    found = case(
        (has_words, func.hpo_json_entries(_with_words_as_strings(column), names)),
        else_=func.hpo_json_entries(column, names),
    )
    return case((func.strpos(column, _MARK) == 0, func.coalesce(found, column)), else_=column)


def _with_words_as_strings(column: ColumnElement[str]) -> ColumnElement[str]:
    """Return the text with bare words after keys made strings; this breaks a string that contains one."""
    text = column
    for word in _WORDS:
        for colon in (":", ": "):
            text = func.replace(text, f"{colon}{word}", f'{colon}"{_MARK}{word}"')
    return text


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

    def __init__(self, *, new_name: Callable[[], str] = lambda: uuid4().hex) -> None:
        self._new_name = new_name
        self._listings: OrderedDict[str, CachedListing] = OrderedDict()
        self._lock = Lock()

    def add(self, scope: ListingScope, order: str | None, ids: Sequence[int]) -> CachedListing:
        """Add a listing under a new name."""
        listing = CachedListing(self._new_name(), scope, order, array("q", ids))
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


class Candidate:
    """A run that may pass the filters, with the needed facts."""

    __slots__ = ("_columns", "config", "id", "summary")

    def __init__(self, needs: FieldNeeds, row: Row[Any]) -> None:
        key, config, summary, *_ = tuple(row)
        self.id: int = key
        self.config = read(config, needs.config) if needs.config else {}
        self.summary = read(summary, needs.summary) if needs.summary else {}
        self._columns = row._mapping

    def column(self, name: str) -> Any:
        """Return a column's value."""
        return self._columns[name]


def count_in_sql(connection: Connection, wanted: RunQuery) -> int | None:
    """Count the runs in SQL, or return None if SQL can't."""
    where = condition(wanted.filters, connection)
    return count(connection, runs, _here(connection, wanted, where.sql)) if where.exact else None


def page_ids(
    connection: Connection, wanted: RunQuery, order: Sequence[SortKey], begin: int, number: int
) -> list[int] | None:
    """Return the ids of `number` runs from offset `begin` in an order, or None if SQL can't."""
    where, by = condition(wanted.filters, connection), order_by(order, connection)
    if by is None or not where.exact:
        return None
    query = select(runs.c.id).where(_here(connection, wanted, where.sql))
    return list(connection.scalars(query.order_by(*by).offset(begin).limit(number)))


def all_ids(
    connection: Connection, wanted: RunQuery, order: Sequence[SortKey], check: Callable[[], None]
) -> list[int]:
    """Return the ids of all runs in an order, filtered and sorted in Python; calls `check` for each run."""
    where = condition(wanted.filters, connection)
    names = [key.name for key in order]
    if not where.exact:
        names += names_in(wanted.filters)
    found = []
    for run in _candidates(connection, _here(connection, wanted, where.sql), needs_of(names)):
        check()
        if where.exact or passes(run, wanted.filters):
            found.append((run.id, sort_keys(run, order)))
    return sort_by(found, order)


def _here(connection: Connection, wanted: RunQuery, where: ColumnElement[bool]) -> ColumnElement[bool]:
    return (runs.c.project_id == wanted.project_id) & seen(connection) & where


def _candidates(connection: Connection, where: ColumnElement[bool], needs: FieldNeeds) -> Iterator[Candidate]:
    """Yield the needed facts of the runs that meet a condition, oldest first."""
    nothing = null()
    query = (
        select(
            runs.c.id,
            picked(connection, runs.c.config, needs.config) if needs.config else nothing,
            picked(connection, runs.c.summary, needs.summary) if needs.summary else nothing,
            *(runs.c[name] for name in needs.columns),
        )
        .where(where)
        .order_by(runs.c.id)
    )
    for rows in connection.execute(query).partitions(_ROWS_PER_FETCH):
        for row in rows:
            yield Candidate(needs, row)
