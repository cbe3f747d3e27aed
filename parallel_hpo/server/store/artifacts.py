"""Artifacts: collections and their versions, the runs that log and use them, and their manifests' files."""

from __future__ import annotations

import json
from collections.abc import Collection as Several
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, Table, delete, func, insert, select, update

from parallel_hpo.server.store.tables import (
    artifact_aliases,
    artifact_files,
    artifact_links,
    artifact_outputs,
    artifact_uses,
    artifacts,
    collections,
    insert_one,
    projects,
)

PENDING: Final = "PENDING"
COMMITTED: Final = "COMMITTED"
DELETED: Final = "DELETED"


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of versions in a project: a sequence, to which they are logged, or a portfolio of links."""

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
    """The number of a portfolio's next link; None: a sequence."""
    tags: str | None = None
    """A JSON list of names; None: no tags."""

    @property
    def is_portfolio(self) -> bool:
        """Whether versions are linked to it rather than logged."""
        return self.next_link is not None

    @property
    def tag_names(self) -> list[str]:
        """The names of its tags, sorted."""
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
    """The client's own id, from before the artifact was created here."""
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
    """Return the collection in a row of `select_collections` or `select_artifacts`."""
    names = Collection.__slots__
    return Collection(**{name: row._mapping[f"of_{name}"] for name in names})


def artifact_in(row: Row[Any]) -> Artifact:
    """Return the artifact in a row of `select_artifacts`."""
    values = {name: row._mapping[name] for name in Artifact.__slots__ if name != "collection"}
    return Artifact(collection=collection_in(row), **values)


def all_of(connection: Connection, query: Select[Any]) -> list[Artifact]:
    """Return the artifacts that a query finds."""
    return [artifact_in(row) for row in connection.execute(query)]


def first_of(connection: Connection, query: Select[Any]) -> Artifact | None:
    """Return the first artifact that a query finds, or None."""
    row = connection.execute(query).first()
    return None if row is None else artifact_in(row)


def find(connection: Connection, artifact_id: int) -> Artifact | None:
    """Return the artifact with this id, or None."""
    return first_of(connection, select_artifacts().where(artifacts.c.id == artifact_id))


def by_client_id(connection: Connection, client_id: str) -> int | None:
    """Return the id of the artifact with a client's own id, or None."""
    key: int | None = connection.scalar(select(artifacts.c.id).where(artifacts.c.client_id == client_id))
    return key


def versions(connection: Connection, collection_id: int) -> list[Artifact]:
    """Return a collection's committed versions, newest first."""
    return all_of(connection, _newest_first(collection_id))


def latest(connection: Connection, collection_id: int) -> Artifact | None:
    """Return a collection's newest committed version, or None."""
    return first_of(connection, _newest_first(collection_id).limit(1))


def _newest_first(collection_id: int) -> Select[Any]:
    here = (artifacts.c.collection_id == collection_id) & (artifacts.c.state == COMMITTED)
    return select_artifacts().where(here).order_by(artifacts.c.version.desc())


def next_version(connection: Connection, collection_id: int) -> int:
    """Return the number of a collection's next version; numbers of deleted ones are not reused."""
    query = select(func.max(artifacts.c.version)).where(artifacts.c.collection_id == collection_id)
    newest: int | None = connection.scalar(query)
    return 0 if newest is None else newest + 1


def by_alias(connection: Connection, collection_id: int, alias: str) -> Artifact | None:
    """Return a sequence's version by alias or `v<number>`, or None."""
    here = _newest_first(collection_id)
    named = select(artifact_aliases.c.artifact_id).where(
        artifact_aliases.c.collection_id == collection_id, artifact_aliases.c.alias == alias
    )
    found = first_of(connection, here.where(artifacts.c.id.in_(named)))
    number = version_number(alias)
    if found is None and number is not None:
        found = first_of(connection, here.where(artifacts.c.version == number))
    return found


def version_number(alias: str) -> int | None:
    """Return the number in `v<number>`, or None for any other alias."""
    number = alias[1:]
    is_number = alias.startswith("v") and number.isascii() and number.isdigit() and len(number) < 9
    return int(number) if is_number else None


def with_digest(connection: Connection, collection_id: int, digest: str) -> Artifact | None:
    """Return a collection's newest committed version with this digest, or None."""
    return first_of(connection, _newest_first(collection_id).where(artifacts.c.digest == digest).limit(1))


def create(connection: Connection, values: dict[str, Any]) -> int:
    """Insert an uncommitted artifact, and return its id."""
    return insert_one(connection, artifacts, {"state": PENDING, "size": 0, "file_count": 0} | values)


def change(connection: Connection, artifact_id: int, changes: dict[str, Any]) -> None:
    """Set columns of an artifact."""
    connection.execute(update(artifacts).where(artifacts.c.id == artifact_id).values(changes))


def use(connection: Connection, run_id: int, artifact_id: int) -> None:
    """Record that a run uses an artifact."""
    _note(connection, artifact_uses, run_id, artifact_id)


def log_again(connection: Connection, run_id: int, artifact_id: int) -> None:
    """Record that a run logged an existing artifact."""
    _note(connection, artifact_outputs, run_id, artifact_id)


def _note(connection: Connection, table: Table, run_id: int, artifact_id: int) -> None:
    known = select(table).where(table.c.run_id == run_id, table.c.artifact_id == artifact_id)
    if connection.execute(known).first() is None:
        connection.execute(insert(table).values(run_id=run_id, artifact_id=artifact_id))


def users(connection: Connection, artifact_id: int) -> list[int]:
    """Return the ids of the runs that use an artifact."""
    query = select(artifact_uses.c.run_id).where(artifact_uses.c.artifact_id == artifact_id)
    return list(connection.scalars(query.order_by(artifact_uses.c.run_id)))


def used_by_run(connection: Connection, run_id: int) -> list[Artifact]:
    """Return the artifacts that a run uses."""
    used = select(artifact_uses.c.artifact_id).where(artifact_uses.c.run_id == run_id)
    return all_of(connection, select_artifacts().where(artifacts.c.id.in_(used)).order_by(artifacts.c.id))


def logged_by_run(connection: Connection, run_id: int) -> list[Artifact]:
    """Return the committed artifacts that a run was the first to log."""
    query = select_artifacts().where(artifacts.c.run_id == run_id, artifacts.c.state == COMMITTED)
    return all_of(connection, query.order_by(artifacts.c.id))


def outputs_of_run(connection: Connection, run_id: int) -> list[Artifact]:
    """Return the committed artifacts that a run logged, whether it was the first or not."""
    again = select(artifact_outputs.c.artifact_id).where(artifact_outputs.c.run_id == run_id)
    own = (artifacts.c.run_id == run_id) | artifacts.c.id.in_(again)
    query = select_artifacts().where(own, artifacts.c.state == COMMITTED)
    return all_of(connection, query.order_by(artifacts.c.id))


def is_logged_again(connection: Connection, artifact_id: int) -> bool:
    """Return whether a second run logged an artifact."""
    query = select(artifact_outputs).where(artifact_outputs.c.artifact_id == artifact_id)
    return connection.execute(query.limit(1)).first() is not None


def forget_uses(connection: Connection, run_id: int) -> None:
    """Delete a run's uses of artifacts."""
    connection.execute(delete(artifact_uses).where(artifact_uses.c.run_id == run_id))


def forget_run(connection: Connection, run_id: int) -> None:
    """Delete all references of artifacts to a run, before it is deleted."""
    forget_uses(connection, run_id)
    connection.execute(delete(artifact_outputs).where(artifact_outputs.c.run_id == run_id))
    connection.execute(update(artifacts).where(artifacts.c.run_id == run_id).values(run_id=None))


def remove(connection: Connection, artifact_id: int) -> None:
    """Delete an artifact; its version number stays taken."""
    for table in (artifact_aliases, artifact_files, artifact_uses, artifact_outputs, artifact_links):
        connection.execute(delete(table).where(table.c.artifact_id == artifact_id))
    change(connection, artifact_id, {"state": DELETED, "digest": "", "client_id": None})


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a manifest; `ref` is the URL of a file that is stored elsewhere."""

    path: str
    digest: str
    size: int
    ref: str | None


def put_files(connection: Connection, artifact_id: int, entries: list[Entry]) -> None:
    """Insert the files of a committed artifact's manifest."""
    rows = [
        {"artifact_id": artifact_id, "path": e.path, "digest": e.digest, "size": e.size, "ref": e.ref}
        for e in entries
    ]
    if rows:
        connection.execute(insert(artifact_files), rows)


def files_of(connection: Connection, artifact_id: int, names: Several[str] = ()) -> list[Entry]:
    """Return an artifact's files by path: all, or those in `names`."""
    query = select(artifact_files).where(artifact_files.c.artifact_id == artifact_id)
    if names:
        query = query.where(artifact_files.c.path.in_(names))
    rows = connection.execute(query.order_by(artifact_files.c.path))
    return [Entry(row.path, row.digest, row.size, row.ref) for row in rows]
