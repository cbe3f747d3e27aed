"""What all tables are asked in the same way: for a row as its record, to take a row, and to count rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, func, insert, select

from parallel_hpo.server.store.columns import types_in
from parallel_hpo.server.store.records import Agent, Project, Run, Sweep

R = TypeVar("R", Project, Sweep, Agent, Run)

_ENUMS: Final[Mapping[type, Mapping[str, type[StrEnum]]]] = {
    kind: {name: found for name, found in types_in(kind).items() if issubclass(found, StrEnum)}
    for kind in (Project, Sweep, Agent, Run)
}


def record(kind: type[R], row: Row[Any]) -> R:
    """Make a record of a row that has a column for each of its fields."""
    values = {field.name: row._mapping[field.name] for field in fields(kind)}
    return kind(**values | {name: enum(values[name]) for name, enum in _ENUMS[kind].items()})


def insert_one(connection: Connection, table: Table, values: dict[str, Any]) -> int:
    """Insert a row into a table with a key of one number, and return the key."""
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def count(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    """Count the rows that meet a condition."""
    found: int = connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
    return found
