"""What all tables are asked in the same way: to take a row and tell its key, and to count rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, insert, select


def insert_one(connection: Connection, table: Table, values: dict[str, Any]) -> int:
    """Insert a row into a table with a key of one number, and return the key."""
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def count(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    """Count the rows that meet a condition."""
    found: int = connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
    return found
