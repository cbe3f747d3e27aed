"""What all finders of `store` share: which sweep a transaction may see, and a row as its record.

Runs that belong to no sweep are everybody's. What was found may be followed freely: a run
leads to its own sweep and lines only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, func, insert, or_, select, true

from parallel_hpo.server.store.records import Agent, Project, Run, Sweep, types_in
from parallel_hpo.server.store.tables import runs

OPTION: Final = "only_sweep"

R = TypeVar("R", Project, Sweep, Agent, Run)

_ENUMS: Final[Mapping[type, Mapping[str, type[StrEnum]]]] = {
    kind: {name: found for name, found in types_in(kind).items() if issubclass(found, StrEnum)}
    for kind in (Project, Sweep, Agent, Run)
}


def only_sweep(connection: Connection) -> str | None:
    """Return the only sweep that this transaction may see; None: it may see all."""
    sweep_id: str | None = connection.get_execution_options().get(OPTION)
    return sweep_id


def may_see(connection: Connection, sweep_id: str | None) -> bool:
    """Say whether it may see what belongs to this sweep, or to none."""
    own = only_sweep(connection)
    return own is None or sweep_id in (None, own)


def seen(connection: Connection) -> ColumnElement[bool]:
    """Return the condition that the runs meet which it may see."""
    own = only_sweep(connection)
    return true() if own is None else or_(runs.c.sweep_id.is_(None), runs.c.sweep_id == own)


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
