"""What a sweep takes up: rows of the database, and bytes of it and of runs' files."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, func, select
from sqlalchemy.exc import DatabaseError

from parallel_hpo.errors import BackendError
from parallel_hpo.server.tables import lines, run_files, runs


@dataclass(frozen=True, slots=True)
class Holding:
    """`rows`: runs and their lines; `size`: bytes of their texts and files, without what keeps them."""

    rows: int = 0
    size: int = 0

    def __add__(self, other: Holding) -> Holding:
        return Holding(self.rows + other.rows, self.size + other.size)


def of_sweep(connection: Connection, sweep_id: str) -> Holding:
    """Return what a sweep's runs take up; BackendError where the database can't be read."""
    own = runs.c.sweep_id == sweep_id
    columns = (runs.c.config, runs.c.summary, runs.c.system_metrics, runs.c.history_keys)
    texts = reduce(operator.add, map(func.length, columns))
    try:
        return (
            _total(connection, runs, own, texts)
            + _total(connection, lines.join(runs), own, func.length(lines.c.text))
            + _total(connection, run_files.join(runs), own, run_files.c.size)
        )
    except DatabaseError as error:
        raise BackendError(f"the sweep server's database can't be read: {error.orig}") from error


def _total(
    connection: Connection, where: FromClause, own: ColumnElement[bool], size: ColumnElement[Any]
) -> Holding:
    query = select(func.count(), func.sum(size)).select_from(where).where(own)
    rows, total = connection.execute(query).one()
    return Holding(rows, int(total or 0))
