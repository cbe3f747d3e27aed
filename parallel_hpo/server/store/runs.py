"""Runs: queries, changes and lists; the heartbeat's queries are in `pending_runs`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select, update
from sqlalchemy import delete as sql_delete

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.tables import (
    band_losses,
    count,
    insert_one,
    lines,
    may_see,
    only_sweep,
    projects,
    record,
    run_files,
    runs,
    seen,
)


@dataclass(frozen=True, slots=True)
class RunPath:
    """A run's path as clients give it."""

    entity: str
    project: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a run, for the search engine."""

    revision: int
    index: int
    assigned: str
    state: RunState
    value: float | None
    stopped_at: int | None = None
    """The number of metric values when it was stopped early; None: it was not."""


def _runs() -> Select[Any]:
    join = runs.join(projects, runs.c.project_id == projects.c.id)
    return select(runs, projects.c.entity, projects.c.name.label("project")).select_from(join)


def _first(connection: Connection, query: Select[Any]) -> Run | None:
    row = connection.execute(query).first()
    run = None if row is None else record(Run, row)
    return run if run is not None and may_see(connection, run.sweep_id) else None


def _all(connection: Connection, condition: ColumnElement[bool]) -> list[Run]:
    """Return the runs that meet a condition, oldest first."""
    query = _runs().where(condition, seen(connection)).order_by(runs.c.id)
    return [record(Run, row) for row in connection.execute(query)]


def _part(connection: Connection, condition: ColumnElement[bool], begin: int, number: int) -> list[Run]:
    """Return a page of those runs; only its rows are read whole."""
    here = select(runs.c.id).where(condition, seen(connection)).order_by(runs.c.id)
    return _all(connection, runs.c.id.in_(connection.scalars(here.offset(begin).limit(number)).all()))


def find(connection: Connection, run_id: int) -> Run | None:
    """Return the run with this id, or None."""
    return _first(connection, _runs().where(runs.c.id == run_id))


def at(connection: Connection, path: RunPath) -> Run | None:
    """Return the run at this path, or None."""
    here = (projects.c.entity == path.entity) & (projects.c.name == path.project)
    return _first(connection, _runs().where(here, runs.c.name == path.name))


def in_project(connection: Connection, project_id: int, name: str) -> Run | None:
    """Return a project's run of this name, or None."""
    return _first(connection, _runs().where(runs.c.project_id == project_id, runs.c.name == name))


def in_sweep(connection: Connection, sweep_id: str, name: str) -> Run | None:
    """Return a sweep's run of this name, or None."""
    return _first(connection, _runs().where(runs.c.sweep_id == sweep_id, runs.c.name == name))


def create(connection: Connection, values: dict[str, Any]) -> int:
    """Insert a run and return its id; columns missing in `values` get their defaults."""
    return insert_one(connection, runs, values)


def change(connection: Connection, run_id: int, changes: dict[str, Any]) -> None:
    """Set columns of a run."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(changes))


def delete(connection: Connection, run_id: int) -> None:
    """Delete a run, its lines, losses and records of files."""
    for table in (lines, run_files, band_losses):
        connection.execute(sql_delete(table).where(table.c.run_id == run_id))
    connection.execute(sql_delete(runs).where(runs.c.id == run_id))


def put_back(connection: Connection, run: Run) -> None:
    """Requeue a never-started run for the next agent; its deliveries show that an agent had it."""
    change(connection, run.id, {"waiting": True, "agent_id": None})


def changes_since(connection: Connection, sweep_id: str, revision: int) -> Iterator[Change]:
    """Yield the changes of a sweep's issued runs after `revision`, in order."""
    columns = (runs.c.sweep_revision, runs.c.sweep_index, runs.c.assigned, runs.c.state, runs.c.value)
    stopped_at = case((runs.c.stop_requested, runs.c.metric_rows))
    query = (
        select(*columns, stopped_at)
        .where(runs.c.sweep_id == sweep_id, runs.c.sweep_revision > revision, runs.c.sweep_index.is_not(None))
        .order_by(runs.c.sweep_revision)
    )
    for row in connection.execute(query):
        yield Change(row[0], row[1], row[2], RunState(row[3]), row[4], row[5])


def next_revision_outside_sweeps(connection: Connection) -> int:
    """Return the next revision of the runs without a sweep, by which pages see changes."""
    newest = connection.scalar(select(func.max(runs.c.sweep_revision)).where(runs.c.sweep_id.is_(None)))
    return 1 + (newest or 0)


def is_hidden(connection: Connection, project_id: int, name: str) -> bool:
    """Return whether a project has a run of this name that this transaction may not see."""
    here = (runs.c.project_id == project_id) & (runs.c.name == name)
    return only_sweep(connection) is not None and count(connection, runs, here & ~seen(connection)) > 0


def is_there(connection: Connection, run_id: int) -> bool:
    """Return whether a run with this id exists, even if this transaction may not see it."""
    return count(connection, runs, runs.c.id == run_id) > 0


def neighbours(connection: Connection, run: Run) -> tuple[str | None, str | None]:
    """Return the names of the runs before and after a run, in its sweep or else in its project."""
    same = runs.c.project_id == run.project_id if run.sweep_id is None else runs.c.sweep_id == run.sweep_id
    others = select(runs.c.name).where(same, seen(connection)).limit(1)
    before = others.where(runs.c.id < run.id).order_by(runs.c.id.desc())
    return connection.scalar(before), connection.scalar(others.where(runs.c.id > run.id).order_by(runs.c.id))


def with_ids(connection: Connection, ids: Sequence[int]) -> list[Run | None]:
    """Return the runs with these ids, in their order; None for a missing one."""
    found = _all(connection, runs.c.id.in_(ids))
    return list(map({run.id: run for run in found}.get, ids))


def ids_of_no_sweep(connection: Connection, project_id: int) -> list[int]:
    """Return the ids of a project's runs without a sweep."""
    query = select(runs.c.id).where(runs.c.project_id == project_id, runs.c.sweep_id.is_(None))
    return list(connection.scalars(query))


def of_other_sweeps(connection: Connection, project_id: int, sweep_id: str) -> list[Run]:
    """Return a project's runs outside a sweep, without the transaction's limit: its engine may use them."""
    other = or_(runs.c.sweep_id.is_(None), runs.c.sweep_id != sweep_id)
    query = _runs().where(runs.c.project_id == project_id, other).order_by(runs.c.id)
    return [record(Run, row) for row in connection.execute(query)]


def of_sweep(connection: Connection, sweep_id: str) -> list[Run]:
    """Return a sweep's runs, oldest first."""
    return _all(connection, runs.c.sweep_id == sweep_id)


def part_of_sweep(connection: Connection, sweep_id: str, begin: int, number: int) -> list[Run]:
    """Return `number` of a sweep's runs from offset `begin`."""
    return _part(connection, runs.c.sweep_id == sweep_id, begin, number)


def part_of_agent(connection: Connection, agent_id: str, begin: int, number: int) -> list[Run]:
    """Return `number` of an agent's runs from offset `begin`."""
    return _part(connection, runs.c.agent_id == agent_id, begin, number)
