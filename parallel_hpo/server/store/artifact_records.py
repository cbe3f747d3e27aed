"""The records of collections and of their versions, and the queries that find them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, select

from parallel_hpo.server.store.tables import artifacts, collections, projects

PENDING: Final = "PENDING"
COMMITTED: Final = "COMMITTED"
DELETED: Final = "DELETED"


@dataclass(frozen=True, slots=True)
class Collection:
    """A name in a project under which versions stand: those logged to it, or linked to it (a portfolio)."""

    id: int
    project_id: int
    entity: str
    project: str
    name: str
    type: str
    description: str | None
    created_at: float
    updated_at: float
    next_link: int | None = None
    """The number of a portfolio's next link; None: it is no portfolio."""
    tags: str | None = None
    """A JSON list of names; None: no tags."""

    @property
    def is_portfolio(self) -> bool:
        """Whether versions are linked to it, and not logged."""
        return self.next_link is not None

    @property
    def tag_names(self) -> list[str]:
        """Return the names of its tags, sorted."""
        return json.loads(self.tags) if self.tags else []


@dataclass(frozen=True, slots=True)
class Artifact:
    """A version of a collection; `version` is None until it is committed."""

    id: int
    collection: Collection
    run_id: int | None
    version: int | None
    state: str
    digest: str
    client_id: str | None
    """The id by which the client knew it before the server did."""
    description: str | None
    metadata: str | None
    tags: str
    wanted_aliases: str
    history_step: int | None
    ttl_s: int | None
    size: int
    file_count: int
    created_at: float
    updated_at: float
    incremental: bool | None
    """Whether it is sent as what the version before it hasn't."""


IN_PROJECTS: Final = collections.join(projects, collections.c.project_id == projects.c.id)
COLLECTION_COLUMNS: Final = (
    *(column.label(f"of_{column.name}") for column in collections.c),
    projects.c.entity.label("of_entity"),
    projects.c.name.label("of_project"),
)


def select_collections() -> Select[Any]:
    """Return the query of all collections."""
    return select(*COLLECTION_COLUMNS).select_from(IN_PROJECTS)


def select_artifacts() -> Select[Any]:
    """Return the query of all artifacts that were not deleted."""
    join = IN_PROJECTS.join(artifacts, artifacts.c.collection_id == collections.c.id)
    return select(artifacts, *COLLECTION_COLUMNS).select_from(join).where(artifacts.c.state != DELETED)


def collection_in(row: Row[Any]) -> Collection:
    """Return the collection in a row of either query."""
    names = Collection.__slots__
    return Collection(**{name: row._mapping[f"of_{name}"] for name in names})


def artifact_in(row: Row[Any]) -> Artifact:
    """Return the artifact in a row of the second query."""
    values = {name: row._mapping[name] for name in Artifact.__slots__ if name != "collection"}
    return Artifact(collection=collection_in(row), **values)


def all_of(connection: Connection, query: Select[Any]) -> list[Artifact]:
    """Return the artifacts that a query finds."""
    return [artifact_in(row) for row in connection.execute(query)]


def first_of(connection: Connection, query: Select[Any]) -> Artifact | None:
    """Return the first artifact that a query finds, or None."""
    row = connection.execute(query).first()
    return None if row is None else artifact_in(row)
