"""What sweeps and projects take up: rows of the database, and bytes of it, of files and of artifacts."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, func, select
from sqlalchemy.exc import DatabaseError

from parallel_hpo.errors import BackendError
from parallel_hpo.server.rules.run_states import OPEN
from parallel_hpo.server.store.artifact_records import COMMITTED
from parallel_hpo.server.store.queries import count
from parallel_hpo.server.store.records import Project
from parallel_hpo.server.store.tables import artifacts, collections, lines, projects, run_files, runs, sweeps


@dataclass(frozen=True, slots=True)
class Holding:
    """`rows`: runs, their lines, files and artifacts; `size`: bytes of all these, without what keeps them.

    A file that several artifacts have is on the disk once, and counts in each.
    """

    rows: int = 0
    size: int = 0

    def __add__(self, other: Holding) -> Holding:
        return Holding(self.rows + other.rows, self.size + other.size)


@dataclass(frozen=True, slots=True)
class Kept:
    """A sweep that there is; `heard_at`: when it, an agent or a run of it was last heard of."""

    id: str
    entity: str
    project: str
    state: str
    heard_at: float


@dataclass(frozen=True, slots=True)
class BesidesSweeps:
    """What a project has besides its sweeps."""

    runs: int
    collections: int
    heard_at: float
    is_on: bool
    """Whether one of those runs is."""
    held: Holding


def of_sweep(connection: Connection, sweep_id: str) -> Holding:
    """Return what a sweep's runs take up; BackendError where the database can't be read."""
    return _of_runs(connection, runs.c.sweep_id == sweep_id)


def sweeps_kept(connection: Connection) -> list[Kept]:
    """Return all sweeps, the ones first of which nothing was heard for longest."""
    last = func.max(runs.c.heard_at)
    columns = (sweeps.c.id, projects.c.entity, projects.c.name, sweeps.c.state)
    times = (sweeps.c.updated_at, sweeps.c.heartbeat_at)
    tables = sweeps.join(projects).outerjoin(runs, runs.c.sweep_id == sweeps.c.id)
    query = select(*columns, *times, last).select_from(tables).group_by(*columns, *times)
    found = [Kept(*row[:4], max(row[4], row[5], row[6] or 0.0)) for row in connection.execute(query)]
    return sorted(found, key=lambda kept: kept.heard_at)


def besides_sweeps(connection: Connection, project: Project) -> BesidesSweeps:
    """Return what a project has besides its sweeps; BackendError where the database can't be read."""
    own = (runs.c.project_id == project.id) & runs.c.sweep_id.is_(None)
    number, heard_at = connection.execute(select(func.count(), func.max(runs.c.heard_at)).where(own)).one()
    return BesidesSweeps(
        runs=number,
        collections=count(connection, collections, collections.c.project_id == project.id),
        heard_at=max(heard_at or 0.0, project.created_at),
        is_on=count(connection, runs, own & runs.c.state.in_(OPEN)) > 0,
        held=_of_runs(connection, own),
    )


def _of_runs(connection: Connection, own: ColumnElement[bool]) -> Holding:
    columns = (runs.c.config, runs.c.summary, runs.c.system_metrics, runs.c.history_keys)
    texts = reduce(operator.add, map(func.length, columns))
    logged = artifacts.c.state == COMMITTED
    try:
        return (
            _total(connection, runs, own, texts)
            + _total(connection, lines.join(runs), own, func.length(lines.c.text))
            + _total(connection, run_files.join(runs), own, run_files.c.size)
            + _total(connection, artifacts.join(runs), own & logged, artifacts.c.size)
        )
    except DatabaseError as error:
        raise BackendError(f"the sweep server's database can't be read: {error.orig}") from error


def _total(
    connection: Connection, where: FromClause, own: ColumnElement[bool], size: ColumnElement[Any]
) -> Holding:
    query = select(func.count(), func.sum(size)).select_from(where).where(own)
    rows, total = connection.execute(query).one()
    return Holding(rows, int(total or 0))
