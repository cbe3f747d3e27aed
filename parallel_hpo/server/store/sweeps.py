"""Sweeps: their configuration, state and counters."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, insert, select, true, update
from sqlalchemy import delete as sql_delete

from parallel_hpo.server.store.records import Sweep
from parallel_hpo.server.store.rows import count, record
from parallel_hpo.server.store.scope import may_see, only_sweep
from parallel_hpo.server.store.tables import agents, open_points, projects, runs, sweeps


def _sweeps() -> Select[Any]:
    join = sweeps.join(projects, sweeps.c.project_id == projects.c.id)
    return select(sweeps, projects.c.entity, projects.c.name.label("project")).select_from(join)


# What every heartbeat asks is built once: building a statement costs more than SQLite takes to run it.
_FIND = _sweeps().where(sweeps.c.id == bindparam("sweep"))


def find(connection: Connection, sweep_id: str) -> Sweep | None:
    """Return the sweep, or None."""
    row = connection.execute(_FIND, {"sweep": sweep_id}).first() if may_see(connection, sweep_id) else None
    return None if row is None else record(Sweep, row)


def of_project(connection: Connection, project_id: int, begin: int, number: int) -> list[Sweep]:
    """Return `number` of a project's sweeps from a place on, newest first."""
    query = _sweeps().where(_here(connection, project_id)).order_by(sweeps.c.created_at.desc(), sweeps.c.id)
    return [record(Sweep, row) for row in connection.execute(query.offset(begin).limit(number))]


def ids_in_project(connection: Connection, project_id: int) -> list[str]:
    """Return the ids of all sweeps of a project."""
    return list(connection.scalars(select(sweeps.c.id).where(_here(connection, project_id))))


def count_in_project(connection: Connection, project_id: int) -> int:
    """Count a project's sweeps."""
    return count(connection, sweeps, _here(connection, project_id))


def _here(connection: Connection, project_id: int) -> ColumnElement[bool]:
    own = only_sweep(connection)
    return (sweeps.c.project_id == project_id) & (true() if own is None else sweeps.c.id == own)


def create(connection: Connection, values: dict[str, Any]) -> None:
    """Insert a sweep; `values` has all of its columns that have no default."""
    connection.execute(insert(sweeps).values(values))


def change(connection: Connection, sweep_id: str, changes: dict[str, Any]) -> None:
    """Set columns of a sweep."""
    connection.execute(update(sweeps).where(sweeps.c.id == sweep_id).values(changes))


def delete(connection: Connection, sweep_id: str) -> None:
    """Delete a sweep that has no runs any more, with its agents and open points."""
    for table in (agents, open_points):
        connection.execute(sql_delete(table).where(table.c.sweep_id == sweep_id))
    connection.execute(sql_delete(sweeps).where(sweeps.c.id == sweep_id))


def next_revision(connection: Connection, sweep_id: str) -> int:
    """Count one more change that the search engine must hear of, and return its number."""
    query = (
        update(sweeps)
        .where(sweeps.c.id == sweep_id)
        .values(revision=sweeps.c.revision + 1)
        .returning(sweeps.c.revision)
    )
    revision: int = connection.execute(query).scalar_one()
    return revision


def counts(connection: Connection, sweep_id: str) -> dict[str, int]:
    """Count a sweep's runs by state."""
    query = select(runs.c.state, func.count()).where(runs.c.sweep_id == sweep_id).group_by(runs.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def best_value(connection: Connection, sweep_id: str, *, maximize: bool) -> float | None:
    """Return the best of the values that a sweep's ended runs reached, or None."""
    best = func.max(runs.c.value) if maximize else func.min(runs.c.value)
    value: float | None = connection.scalar(select(best).where(runs.c.sweep_id == sweep_id))
    return value
