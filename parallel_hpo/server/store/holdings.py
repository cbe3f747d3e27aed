"""Storage usage of sweeps and projects, and records that nothing refers to any more.

The latter are files without an artifact, unfinished artifacts, empty collections and empty projects.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Table,
    delete,
    exists,
    func,
    not_,
    select,
)
from sqlalchemy.exc import DatabaseError

from parallel_hpo.core.errors import BackendError
from parallel_hpo.server.rules.runs import OPEN
from parallel_hpo.server.store.artifacts import COMMITTED, DELETED, PENDING
from parallel_hpo.server.store.records import Project
from parallel_hpo.server.store.tables import (
    artifact_files,
    artifacts,
    collections,
    count,
    lines,
    metadata,
    projects,
    run_files,
    runs,
    sweeps,
)


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """`rows` of runs, lines, files and artifacts; `size` in bytes, without the database's overhead.

    A file of several artifacts is on the disk once, and counts in each.
    """

    rows: int = 0
    size: int = 0

    def __add__(self, other: StorageUsage) -> StorageUsage:
        return StorageUsage(self.rows + other.rows, self.size + other.size)


@dataclass(frozen=True, slots=True)
class StoredSweep:
    """A stored sweep; `heard_at`: last activity of it, its agents or its runs."""

    id: str
    entity: str
    project: str
    state: str
    heard_at: float


@dataclass(frozen=True, slots=True)
class ProjectRest:
    """A project's contents outside its sweeps."""

    runs: int
    collections: int
    heard_at: float
    is_on: bool
    """Whether one of those runs is active."""
    held: StorageUsage


def of_sweep(connection: Connection, sweep_id: str) -> StorageUsage:
    """Return the storage usage of a sweep's runs; BackendError if the database can't be read."""
    return _of_runs(connection, runs.c.sweep_id == sweep_id)


def list_sweeps(connection: Connection) -> list[StoredSweep]:
    """Return all sweeps, least recently active first."""
    last = func.max(runs.c.heard_at)
    columns = (sweeps.c.id, projects.c.entity, projects.c.name, sweeps.c.state)
    times = (sweeps.c.updated_at, sweeps.c.heartbeat_at)
    tables = sweeps.join(projects).outerjoin(runs, runs.c.sweep_id == sweeps.c.id)
    query = select(*columns, *times, last).select_from(tables).group_by(*columns, *times)
    found = [StoredSweep(*row[:4], max(row[4], row[5], row[6] or 0.0)) for row in connection.execute(query)]
    return sorted(found, key=lambda kept: kept.heard_at)


def besides_sweeps(connection: Connection, project: Project) -> ProjectRest:
    """Return a project's contents outside its sweeps; BackendError if the database can't be read."""
    own = (runs.c.project_id == project.id) & runs.c.sweep_id.is_(None)
    number, heard_at = connection.execute(select(func.count(), func.max(runs.c.heard_at)).where(own)).one()
    return ProjectRest(
        runs=number,
        collections=count(connection, collections, collections.c.project_id == project.id),
        heard_at=max(heard_at or 0.0, project.created_at),
        is_on=count(connection, runs, own & runs.c.state.in_(OPEN)) > 0,
        held=_of_runs(connection, own),
    )


def _of_runs(connection: Connection, own: ColumnElement[bool]) -> StorageUsage:
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
) -> StorageUsage:
    query = select(func.count(), func.sum(size)).select_from(where).where(own)
    rows, total = connection.execute(query).one()
    return StorageUsage(rows, int(total or 0))


def unused(connection: Connection, digests: Collection[str]) -> set[str]:
    """Return those of the digests that no artifact's file has."""
    query = select(artifact_files.c.digest).where(artifact_files.c.digest.in_(digests))
    return set(digests) - set(connection.scalars(query.distinct()))


def first_unfinished(connection: Connection) -> float | None:
    """Return the creation time of the oldest artifact that may still be committed, or None."""
    query = select(func.min(artifacts.c.created_at)).where(artifacts.c.state == PENDING)
    begun: float | None = connection.scalar(query)
    return begun


def unfinished_of_run(connection: Connection, run_id: int) -> list[int]:
    """Return the ids of a run's uncommitted artifacts."""
    query = select(artifacts.c.id).where(artifacts.c.state == PENDING, artifacts.c.run_id == run_id)
    return list(connection.scalars(query))


def abandoned(connection: Connection, silent_since: float, of_ended_runs_since: float) -> list[int]:
    """Return the ids of uncommitted artifacts inactive since a time; a later one if the run has ended."""
    over = select(runs.c.id).where(runs.c.state.not_in(OPEN))
    silent = artifacts.c.updated_at < silent_since
    ended = (artifacts.c.updated_at < of_ended_runs_since) & artifacts.c.run_id.in_(over)
    return list(
        connection.scalars(select(artifacts.c.id).where(artifacts.c.state == PENDING, silent | ended))
    )


def kept_artifacts(connection: Connection, ids: Collection[int]) -> set[int]:
    """Return those of some keys that are artifacts'."""
    query = select(artifacts.c.id).where(artifacts.c.id.in_(ids), artifacts.c.state != DELETED)
    return set(connection.scalars(query))


def kept_runs(connection: Connection, ids: Collection[int]) -> set[int]:
    """Return those of some keys that are runs'."""
    return set(connection.scalars(select(runs.c.id).where(runs.c.id.in_(ids))))


def drop_empty_collections(connection: Connection, project_id: int) -> None:
    """Forget a project's collections that have no artifact any more, and the numbers taken in them."""
    alive = exists().where(artifacts.c.collection_id == collections.c.id, artifacts.c.state != DELETED)
    others = [column for column in _referring_to(collections) if column.table is not artifacts]
    named = [exists().where(column == collections.c.id) for column in others]
    query = select(collections.c.id).where(collections.c.project_id == project_id, ~alive)
    empty = list(connection.scalars(query.where(*map(not_, named))))
    connection.execute(delete(artifacts).where(artifacts.c.collection_id.in_(empty)))
    connection.execute(delete(collections).where(collections.c.id.in_(empty)))


def drop_empty_project(connection: Connection, project_id: int) -> None:
    """Delete a project if it is empty."""
    found = [
        connection.execute(select(column).where(column == project_id).limit(1)).first()
        for column in _referring_to(projects)
    ]
    if not any(found):
        connection.execute(delete(projects).where(projects.c.id == project_id))


def _referring_to(table: Table) -> list[Column[Any]]:
    """Return the foreign keys to a table in all tables."""
    keys = [key for other in metadata.sorted_tables for key in other.foreign_keys]
    return [key.parent for key in keys if key.column.table is table]
