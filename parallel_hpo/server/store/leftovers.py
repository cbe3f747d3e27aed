"""What nothing refers to any more: files that no artifact has, artifacts that were begun and never finished,
collections and projects with nothing in them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, exists, func, not_, select

from parallel_hpo.server.rules.run_states import OPEN
from parallel_hpo.server.store.artifact_records import DELETED, PENDING
from parallel_hpo.server.store.tables import artifact_files, artifacts, collections, metadata, projects, runs


def unused(connection: Connection, digests: Collection[str]) -> set[str]:
    """Return those of some digests that no artifact's file has any more."""
    query = select(artifact_files.c.digest).where(artifact_files.c.digest.in_(digests))
    return set(digests) - set(connection.scalars(query.distinct()))


def first_unfinished(connection: Connection) -> float | None:
    """Return when the oldest artifact was begun that may still be committed; None: there is none."""
    query = select(func.min(artifacts.c.created_at)).where(artifacts.c.state == PENDING)
    begun: float | None = connection.scalar(query)
    return begun


def unfinished_of_run(connection: Connection, run_id: int) -> list[int]:
    """Return the keys of the artifacts that a run began and did not commit."""
    query = select(artifacts.c.id).where(artifacts.c.state == PENDING, artifacts.c.run_id == run_id)
    return list(connection.scalars(query))


def abandoned(connection: Connection, silent_since: float, of_ended_runs_since: float) -> list[int]:
    """Return the keys of artifacts that are not committed and silent since then, sooner if a run is over."""
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
    """Forget a project in which nothing is."""
    found = [
        connection.execute(select(column).where(column == project_id).limit(1)).first()
        for column in _referring_to(projects)
    ]
    if not any(found):
        connection.execute(delete(projects).where(projects.c.id == project_id))


def _referring_to(table: Table) -> list[Column[Any]]:
    """Return the columns of all tables that hold a key of this one."""
    keys = [key for other in metadata.sorted_tables for key in other.foreign_keys]
    return [key.parent for key in keys if key.column.table is table]
