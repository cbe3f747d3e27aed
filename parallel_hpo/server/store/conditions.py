"""Filters and orders of runs in SQL, as far as they are about columns; `filters` says what they mean.

What SQL can't say exactly as there (JSON, patterns, lists) is left to be judged by
`filters`: a condition here never keeps a run out that passes there.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Float, and_, collate, false, func, not_, or_, true

from parallel_hpo.server.store.filters import SortKey, is_number, seconds
from parallel_hpo.server.store.records import ASKED_AS
from parallel_hpo.server.store.tables import runs

_MOST_PARTS: Final = 200
"""Databases take no expression of any size; what is longer is judged run by run."""
_LONGEST_TEXT: Final = 10_000

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """What SQL says of filters: it is met by every run that passes, and by no other where it is `exact`."""

    sql: ColumnElement[bool]
    exact: bool = True


_ANY: Final = Condition(true(), exact=False)
_ALWAYS: Final = Condition(true())
_NEVER: Final = Condition(false())


def condition(filters: Mapping[str, Any], connection: Connection) -> Condition:
    """Return what SQL can say of filters."""
    return _Compiler(connection).all_of(filters) if _parts(filters) <= _MOST_PARTS else _ANY


def order_by(order: Iterable[SortKey], connection: Connection) -> list[ColumnElement[Any]] | None:
    """Return an order in SQL, what is null last and ties in the order of their making; None: it can't be."""
    found: list[ColumnElement[Any]] = []
    for key in order:
        if key.name not in ASKED_AS:
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
    """Clause by clause, as `filters` judges them."""

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
        if key not in ASKED_AS:
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
    """Return the opposite: of what may be met by runs that don't pass, nothing is known."""
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
    # Never null itself: its opposite must be met by a run that has no value.
    return Condition(and_(value.is_not(None), value == wanted)) if _can_be_stored(wanted) else _ANY


def _has_tag(tag: str) -> Condition:
    """Return whether a tag's JSON is in that of the list, the server's own: it may be within another tag."""
    text = json.dumps(tag)
    return Condition(runs.c.tags.contains(text, autoescape=True), exact=False) if len(text) < 1000 else _ANY


def _column(key: str) -> Any:
    return runs.c[ASKED_AS[key]]


def _value(key: str) -> ColumnElement[Any]:
    column = _column(key)
    return func.coalesce(func.nullif(column, ""), runs.c.name) if column.name == "display_name" else column


def _sortable(key: str, connection: Connection) -> ColumnElement[Any]:
    """Return a value that is compared as Python compares: texts by their characters, not by a language."""
    is_text = not isinstance(_column(key).type, Float)
    if is_text and connection.dialect.name == "postgresql":
        return collate(_value(key), "C")
    return _value(key)


def _is_float(operand: Any) -> bool:
    """Say whether a number is one that a database takes as it is."""
    try:
        return isinstance(operand, int | float) and math.isfinite(operand) and float(operand) == operand
    except OverflowError:
        return False


def _can_be_stored(text: str) -> bool:
    try:
        return "\0" not in text and len(text.encode()) <= _LONGEST_TEXT
    except UnicodeEncodeError:
        return False


def _parts(filters: Any) -> int:
    if isinstance(filters, dict):
        return 1 + sum(map(_parts, filters.values()))
    return 1 + sum(map(_parts, filters)) if isinstance(filters, list) else 1
