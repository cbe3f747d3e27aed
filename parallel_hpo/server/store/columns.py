"""The columns of a table, made of the record that its rows become: for each field one of its name.

Its type says what the column holds, and `| None` that it may be null; `Annotated` adds what else
SQL must know. A field's default is the column's, which a new row takes that doesn't say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

from sqlalchemy import Boolean, Column, Float, Integer, Text
from sqlalchemy.types import TypeEngine

JOINED: Final = "joined"
"""Marks a field of a record that is read from another table."""

_TYPES: Final[Mapping[type, Callable[[], TypeEngine[Any]]]] = {
    bool: Boolean,
    int: Integer,
    float: lambda: Float(53),
    str: Text,
}


def columns_of(record: type) -> Iterator[Column[Any]]:
    """Yield the columns for a record's fields; `id` is the key."""
    hints = get_type_hints(record, include_extras=True)
    for field in fields(record):
        _, more = _parts(hints[field.name])
        if JOINED not in more:
            yield _column(field, hints[field.name])


def types_in(record: type) -> dict[str, type]:
    """Return the type of each of a record's fields, null or not."""
    hints = get_type_hints(record, include_extras=True)
    return {name: _type(_parts(hint)[0]) for name, hint in hints.items()}


def _column(field: Field[Any], hint: Any) -> Column[Any]:
    plain, more = _parts(hint)
    return Column(
        field.name,
        *(more or (_TYPES[_type(plain)](),)),
        primary_key=field.name == "id",
        nullable=NoneType in get_args(plain),
        default=None if field.default is MISSING else field.default,
    )


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a field's type, and what `Annotated` adds to it."""
    if not hasattr(hint, "__metadata__"):
        return hint, ()
    return hint.__origin__, hint.__metadata__


def _type(plain: Any) -> type:
    found: type = next(kind for kind in get_args(plain) or (plain,) if kind is not NoneType)
    return found
