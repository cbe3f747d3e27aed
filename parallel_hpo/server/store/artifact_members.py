"""Memberships of versions in collections: in the sequence that they were logged to, and in portfolios.

A portfolio numbers its links; the number of a deleted link is not reused.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from parallel_hpo.server.store import artifact_collections, artifacts
from parallel_hpo.server.store.artifacts import (
    Artifact,
    Collection,
    all_of,
    collection_in,
    select_artifacts,
    select_collections,
)
from parallel_hpo.server.store.tables import artifact_links, collections
from parallel_hpo.server.store.tables import artifacts as artifacts_table


@dataclass(frozen=True, slots=True)
class Member:
    """A version in a collection; `version` is its number there, `since` the time it was added."""

    artifact: Artifact
    collection: Collection
    version: int | None
    since: float


def own(artifact: Artifact) -> Member:
    """Return an artifact's membership in the collection that it was logged to."""
    return Member(artifact, artifact.collection, artifact.version, artifact.created_at)


def of_collection(connection: Connection, collection: Collection) -> list[Member]:
    """Return the committed versions in a collection, newest first."""
    if not collection.is_portfolio:
        return [own(artifact) for artifact in artifacts.versions(connection, collection.id)]
    here = artifact_links.c.collection_id == collection.id
    linked = select(artifact_links.c.artifact_id).where(here)
    found = {
        each.id: each
        for each in all_of(connection, select_artifacts().where(artifacts_table.c.id.in_(linked)))
    }
    rows = connection.execute(select(artifact_links).where(here).order_by(artifact_links.c.version.desc()))
    return [Member(found[row.artifact_id], collection, row.version, row.created_at) for row in rows]


def of_artifact(connection: Connection, artifact: Artifact) -> list[Member]:
    """Return an artifact's memberships in all of its collections, its own one first."""
    links = select(artifact_links).where(artifact_links.c.artifact_id == artifact.id)
    rows = list(connection.execute(links.order_by(artifact_links.c.created_at)))
    if not rows:
        return [own(artifact)]
    query = select_collections().where(collections.c.id.in_([row.collection_id for row in rows]))
    found = {row.of_id: collection_in(row) for row in connection.execute(query)}
    linked = [Member(artifact, found[row.collection_id], row.version, row.created_at) for row in rows]
    return [own(artifact), *linked]


def named(connection: Connection, collection: Collection, alias: str) -> Member | None:
    """Return the version with an alias or `v<number>` in a collection, or None."""
    if not collection.is_portfolio:
        artifact = artifacts.by_alias(connection, collection.id, alias)
        return None if artifact is None else own(artifact)
    meant = artifact_collections.aliases_in(connection, collection.id).get(alias)
    number = None if meant is not None else artifacts.version_number(alias)
    members = of_collection(connection, collection)
    return next((each for each in members if each.artifact.id == meant or each.version == number), None)


def link(connection: Connection, portfolio: Collection, artifact: Artifact, now: float) -> Member:
    """Link a version to a portfolio unless it is linked already, and return its membership."""
    there = (each for each in of_collection(connection, portfolio) if each.artifact.id == artifact.id)
    if (known := next(there, None)) is not None:
        return known
    assert portfolio.next_link is not None
    member = Member(artifact, portfolio, portfolio.next_link, now)
    values = {"collection_id": portfolio.id, "artifact_id": artifact.id, "version": member.version}
    connection.execute(insert(artifact_links).values(values | {"created_at": now}))
    changes = {"next_link": portfolio.next_link + 1, "updated_at": now}
    artifact_collections.change(connection, portfolio.id, changes)
    return member


def unlink(connection: Connection, member: Member) -> None:
    """Delete a version's link to a portfolio, with its aliases there."""
    here = artifact_links.c.collection_id == member.collection.id
    connection.execute(delete(artifact_links).where(here, artifact_links.c.artifact_id == member.artifact.id))
    meant = artifact_collections.aliases_in(connection, member.collection.id)
    artifact_collections.drop_aliases(
        connection, member.collection.id, [name for name, key in meant.items() if key == member.artifact.id]
    )
