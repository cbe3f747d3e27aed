"""Aliases: names that mean one version each in a collection."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select

from parallel_hpo.server.store.artifact_records import (
    COLLECTION_COLUMNS,
    IN_PROJECTS,
    Collection,
    collection_in,
)
from parallel_hpo.server.store.tables import artifact_aliases, collections


def of_artifact(connection: Connection, artifact_id: int) -> list[str]:
    """Return an artifact's aliases in all of its collections."""
    return [alias for alias, _ in with_collections(connection, artifact_id)]


def with_collections(connection: Connection, artifact_id: int) -> list[tuple[str, Collection]]:
    """Return an artifact's aliases, each with the collection in which it has it."""
    join = IN_PROJECTS.join(artifact_aliases, artifact_aliases.c.collection_id == collections.c.id)
    query = select(artifact_aliases.c.alias, *COLLECTION_COLUMNS).select_from(join)
    query = query.where(artifact_aliases.c.artifact_id == artifact_id).order_by(artifact_aliases.c.alias)
    return [(row.alias, collection_in(row)) for row in connection.execute(query)]


def of_collection(connection: Connection, collection_id: int) -> dict[str, int]:
    """Return all aliases in a collection, each with the key of its artifact."""
    query = select(artifact_aliases).where(artifact_aliases.c.collection_id == collection_id)
    rows = connection.execute(query.order_by(artifact_aliases.c.alias))
    return {row.alias: row.artifact_id for row in rows}


def put(connection: Connection, collection_id: int, artifact_id: int, names: Iterable[str]) -> None:
    """Let these aliases in a collection mean this version, whichever one they meant before."""
    for name in dict.fromkeys(names):
        drop(connection, collection_id, [name])
        values = {"collection_id": collection_id, "alias": name, "artifact_id": artifact_id}
        connection.execute(insert(artifact_aliases).values(values))


def drop(connection: Connection, collection_id: int, names: Several[str]) -> None:
    """Let these aliases mean nothing."""
    query = delete(artifact_aliases).where(artifact_aliases.c.collection_id == collection_id)
    connection.execute(query.where(artifact_aliases.c.alias.in_(names)))
