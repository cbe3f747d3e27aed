"""Collections of artifact versions (sequences, to which they are logged, and portfolios) and their aliases.

An alias belongs to one version in its collection.
"""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from parallel_hpo.server.store.artifacts import (
    COLLECTION_COLUMNS,
    IN_PROJECTS,
    Collection,
    collection_in,
    select_collections,
)
from parallel_hpo.server.store.records import Project
from parallel_hpo.server.store.tables import artifact_aliases, artifacts, collections, insert_one


def find(connection: Connection, project_id: int, name: str) -> Collection | None:
    """Return a project's collection, or None."""
    query = select_collections().where(collections.c.project_id == project_id, collections.c.name == name)
    row = connection.execute(query).first()
    return None if row is None else collection_in(row)


def with_key(connection: Connection, collection_id: int) -> Collection | None:
    """Return the collection with this id, or None."""
    row = connection.execute(select_collections().where(collections.c.id == collection_id)).first()
    return None if row is None else collection_in(row)


def ensure(
    connection: Connection, project: Project, name: str, kind: str, now: float, *, portfolio: bool = False
) -> Collection:
    """Return the collection, created with this type and `portfolio` if needed."""
    found = find(connection, project.id, name)
    if found is not None:
        return found
    values = {"project_id": project.id, "name": name, "type": kind, "created_at": now, "updated_at": now}
    made = with_key(
        connection, insert_one(connection, collections, values | {"next_link": 0 if portfolio else None})
    )
    assert made is not None
    return made


def of_project(connection: Connection, project_id: int, kind: str | None = None) -> list[Collection]:
    """Return a project's collections, of one type or of all."""
    query = select_collections().where(collections.c.project_id == project_id).order_by(collections.c.id)
    if kind is not None:
        query = query.where(collections.c.type == kind)
    return [collection_in(row) for row in connection.execute(query)]


def change(connection: Connection, collection_id: int, changes: dict[str, Any]) -> None:
    """Set columns of a collection."""
    connection.execute(update(collections).where(collections.c.id == collection_id).values(changes))


def remove(connection: Connection, collection_id: int) -> None:
    """Delete a collection without versions."""
    connection.execute(delete(artifacts).where(artifacts.c.collection_id == collection_id))
    connection.execute(delete(collections).where(collections.c.id == collection_id))


def aliases_of_artifact(connection: Connection, artifact_id: int) -> list[str]:
    """Return an artifact's aliases in all of its collections."""
    return [alias for alias, _ in aliases_with_collections(connection, artifact_id)]


def aliases_with_collections(connection: Connection, artifact_id: int) -> list[tuple[str, Collection]]:
    """Return an artifact's aliases, each with its collection."""
    join = IN_PROJECTS.join(artifact_aliases, artifact_aliases.c.collection_id == collections.c.id)
    query = select(artifact_aliases.c.alias, *COLLECTION_COLUMNS).select_from(join)
    query = query.where(artifact_aliases.c.artifact_id == artifact_id).order_by(artifact_aliases.c.alias)
    return [(row.alias, collection_in(row)) for row in connection.execute(query)]


def aliases_in(connection: Connection, collection_id: int) -> dict[str, int]:
    """Return the artifact id of each alias in a collection."""
    query = select(artifact_aliases).where(artifact_aliases.c.collection_id == collection_id)
    rows = connection.execute(query.order_by(artifact_aliases.c.alias))
    return {row.alias: row.artifact_id for row in rows}


def put_aliases(connection: Connection, collection_id: int, artifact_id: int, names: Iterable[str]) -> None:
    """Set aliases in a collection to this version."""
    for name in dict.fromkeys(names):
        drop_aliases(connection, collection_id, [name])
        values = {"collection_id": collection_id, "alias": name, "artifact_id": artifact_id}
        connection.execute(insert(artifact_aliases).values(values))


def drop_aliases(connection: Connection, collection_id: int, names: Several[str]) -> None:
    """Delete aliases in a collection."""
    query = delete(artifact_aliases).where(artifact_aliases.c.collection_id == collection_id)
    connection.execute(query.where(artifact_aliases.c.alias.in_(names)))
