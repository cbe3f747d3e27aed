"""Artifacts: their collections, versions, aliases, files, and which runs use them."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from parallel_hpo.server.store import records
from parallel_hpo.server.store.rows import insert_one
from parallel_hpo.server.tables import (
    artifact_aliases,
    artifact_files,
    artifact_uses,
    artifacts,
    collections,
    projects,
)

PENDING: Final = "PENDING"
COMMITTED: Final = "COMMITTED"
DELETED: Final = "DELETED"


@dataclass(frozen=True, slots=True)
class Collection:
    """A name in a project, under which versions stand."""

    id: int
    project_id: int
    entity: str
    project: str
    name: str
    type: str
    description: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Artifact:
    """A version of a collection; `version` is None until it is committed."""

    id: int
    collection: Collection
    run_id: int | None
    version: int | None
    state: str
    digest: str
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


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a manifest; `ref` is the address of one that is kept elsewhere."""

    path: str
    digest: str
    size: int
    ref: str | None


_IN_PROJECTS: Final = collections.join(projects, collections.c.project_id == projects.c.id)
_COLLECTION_COLUMNS: Final = (
    *(column.label(f"of_{column.name}") for column in collections.c),
    projects.c.entity.label("of_entity"),
    projects.c.name.label("of_project"),
)


def _collections() -> Select[Any]:
    return select(*_COLLECTION_COLUMNS).select_from(_IN_PROJECTS)


def _artifacts() -> Select[Any]:
    join = _IN_PROJECTS.join(artifacts, artifacts.c.collection_id == collections.c.id)
    return select(artifacts, *_COLLECTION_COLUMNS).select_from(join).where(artifacts.c.state != DELETED)


def _collection(row: Row[Any]) -> Collection:
    names = Collection.__slots__
    return Collection(**{name: row._mapping[f"of_{name}"] for name in names})


def _artifact(row: Row[Any]) -> Artifact:
    values = {name: row._mapping[name] for name in Artifact.__slots__ if name != "collection"}
    return Artifact(collection=_collection(row), **values)


def _all(connection: Connection, query: Select[Any]) -> list[Artifact]:
    return [_artifact(row) for row in connection.execute(query)]


def _first(connection: Connection, query: Select[Any]) -> Artifact | None:
    row = connection.execute(query).first()
    return None if row is None else _artifact(row)


def collection(connection: Connection, project_id: int, name: str) -> Collection | None:
    """Return a project's collection, or None."""
    query = _collections().where(collections.c.project_id == project_id, collections.c.name == name)
    row = connection.execute(query).first()
    return None if row is None else _collection(row)


def collection_with(connection: Connection, collection_id: int) -> Collection | None:
    """Return the collection with this key, or None."""
    row = connection.execute(_collections().where(collections.c.id == collection_id)).first()
    return None if row is None else _collection(row)


def ensure_collection(
    connection: Connection, project: records.Project, name: str, kind: str, now: float
) -> Collection:
    """Return the collection, made now where it was not there."""
    found = collection(connection, project.id, name)
    if found is not None:
        return found
    values = {"project_id": project.id, "name": name, "type": kind, "created_at": now, "updated_at": now}
    collection_id = insert_one(connection, collections, values)
    return Collection(collection_id, project.id, project.entity, project.name, name, kind, None, now, now)


def collections_of(connection: Connection, project_id: int, kind: str | None = None) -> list[Collection]:
    """Return a project's collections, of one type or of all."""
    query = _collections().where(collections.c.project_id == project_id).order_by(collections.c.id)
    if kind is not None:
        query = query.where(collections.c.type == kind)
    return [_collection(row) for row in connection.execute(query)]


def change_collection(connection: Connection, collection_id: int, changes: dict[str, Any]) -> None:
    """Set columns of a collection."""
    connection.execute(update(collections).where(collections.c.id == collection_id).values(changes))


def find(connection: Connection, artifact_id: int) -> Artifact | None:
    """Return the artifact with this key, or None."""
    return _first(connection, _artifacts().where(artifacts.c.id == artifact_id))


def by_client_id(connection: Connection, client_id: str) -> int | None:
    """Return the key of the artifact that a client knows by an id of its own, or None."""
    key: int | None = connection.scalar(select(artifacts.c.id).where(artifacts.c.client_id == client_id))
    return key


def versions(connection: Connection, collection_id: int) -> list[Artifact]:
    """Return a collection's committed versions, newest first."""
    query = _artifacts().where(artifacts.c.collection_id == collection_id, artifacts.c.state == COMMITTED)
    return _all(connection, query.order_by(artifacts.c.version.desc()))


def latest(connection: Connection, collection_id: int) -> Artifact | None:
    """Return a collection's newest committed version, or None."""
    query = _artifacts().where(artifacts.c.collection_id == collection_id, artifacts.c.state == COMMITTED)
    return _first(connection, query.order_by(artifacts.c.version.desc()).limit(1))


def next_version(connection: Connection, collection_id: int) -> int:
    """Return the number of a collection's next version: one that was deleted is not given again."""
    query = select(func.max(artifacts.c.version)).where(artifacts.c.collection_id == collection_id)
    newest: int | None = connection.scalar(query)
    return 0 if newest is None else newest + 1


def by_alias(connection: Connection, collection_id: int, alias: str) -> Artifact | None:
    """Return a collection's version by an alias or by its `v<number>`, or None."""
    here = _artifacts().where(artifacts.c.collection_id == collection_id, artifacts.c.state == COMMITTED)
    named = select(artifact_aliases.c.artifact_id).where(
        artifact_aliases.c.collection_id == collection_id, artifact_aliases.c.alias == alias
    )
    found = _first(connection, here.where(artifacts.c.id.in_(named)))
    number = alias[1:]
    if found is None and alias.startswith("v") and number.isascii() and number.isdigit() and len(number) < 9:
        found = _first(connection, here.where(artifacts.c.version == int(number)))
    return found


def create(connection: Connection, values: dict[str, Any]) -> int:
    """Insert an artifact that is not committed yet, and return its key."""
    return insert_one(connection, artifacts, {"state": PENDING, "size": 0, "file_count": 0} | values)


def change(connection: Connection, artifact_id: int, changes: dict[str, Any]) -> None:
    """Set columns of an artifact."""
    connection.execute(update(artifacts).where(artifacts.c.id == artifact_id).values(changes))


def aliases(connection: Connection, artifact_id: int) -> list[str]:
    """Return an artifact's aliases."""
    query = select(artifact_aliases.c.alias).where(artifact_aliases.c.artifact_id == artifact_id)
    return list(connection.scalars(query.order_by(artifact_aliases.c.alias)))


def aliases_of_collection(connection: Connection, collection_id: int) -> list[str]:
    """Return all aliases in a collection."""
    query = select(artifact_aliases.c.alias).where(artifact_aliases.c.collection_id == collection_id)
    return list(connection.scalars(query.order_by(artifact_aliases.c.alias)))


def set_aliases(connection: Connection, artifact: Artifact, names: Iterable[str]) -> None:
    """Let these aliases mean this version, whichever one they meant before."""
    collection_id = artifact.collection.id
    for name in dict.fromkeys(names):
        drop_aliases(connection, collection_id, [name])
        values = {"collection_id": collection_id, "alias": name, "artifact_id": artifact.id}
        connection.execute(insert(artifact_aliases).values(values))


def drop_aliases(connection: Connection, collection_id: int, names: Several[str]) -> None:
    """Let these aliases mean nothing."""
    query = delete(artifact_aliases).where(artifact_aliases.c.collection_id == collection_id)
    connection.execute(query.where(artifact_aliases.c.alias.in_(names)))


def put_files(connection: Connection, artifact_id: int, entries: list[Entry]) -> None:
    """Write what a committed artifact's manifest lists."""
    rows = [
        {"artifact_id": artifact_id, "path": e.path, "digest": e.digest, "size": e.size, "ref": e.ref}
        for e in entries
    ]
    if rows:
        connection.execute(insert(artifact_files), rows)


def files(connection: Connection, artifact_id: int, names: Several[str] = ()) -> list[Entry]:
    """Return an artifact's files by path: all, or those called `names`."""
    query = select(artifact_files).where(artifact_files.c.artifact_id == artifact_id)
    if names:
        query = query.where(artifact_files.c.path.in_(names))
    rows = connection.execute(query.order_by(artifact_files.c.path))
    return [Entry(row.path, row.digest, row.size, row.ref) for row in rows]


def use(connection: Connection, run_id: int, artifact_id: int) -> None:
    """Note that a run uses an artifact."""
    known = select(artifact_uses).where(
        artifact_uses.c.run_id == run_id, artifact_uses.c.artifact_id == artifact_id
    )
    if connection.execute(known).first() is None:
        connection.execute(insert(artifact_uses).values(run_id=run_id, artifact_id=artifact_id))


def users(connection: Connection, artifact_id: int) -> list[int]:
    """Return the keys of the runs that use an artifact."""
    query = select(artifact_uses.c.run_id).where(artifact_uses.c.artifact_id == artifact_id)
    return list(connection.scalars(query.order_by(artifact_uses.c.run_id)))


def used_by_run(connection: Connection, run_id: int) -> list[Artifact]:
    """Return the artifacts that a run uses."""
    used = select(artifact_uses.c.artifact_id).where(artifact_uses.c.run_id == run_id)
    return _all(connection, _artifacts().where(artifacts.c.id.in_(used)).order_by(artifacts.c.id))


def logged_by_run(connection: Connection, run_id: int) -> list[Artifact]:
    """Return the committed artifacts that a run logged."""
    query = _artifacts().where(artifacts.c.run_id == run_id, artifacts.c.state == COMMITTED)
    return _all(connection, query.order_by(artifacts.c.id))


def forget_uses(connection: Connection, run_id: int) -> None:
    """Let a run use no artifact."""
    connection.execute(delete(artifact_uses).where(artifact_uses.c.run_id == run_id))


def forget_run(connection: Connection, run_id: int) -> None:
    """Let no artifact refer to a run that is about to be deleted."""
    forget_uses(connection, run_id)
    connection.execute(update(artifacts).where(artifacts.c.run_id == run_id).values(run_id=None))


def remove(connection: Connection, artifact_id: int) -> None:
    """Delete an artifact; its number stays taken."""
    for table in (artifact_aliases, artifact_files, artifact_uses):
        connection.execute(delete(table).where(table.c.artifact_id == artifact_id))
    change(connection, artifact_id, {"state": DELETED, "digest": "", "client_id": None})


def remove_collection(connection: Connection, collection_id: int) -> None:
    """Delete a collection of which no version is left."""
    connection.execute(delete(artifacts).where(artifacts.c.collection_id == collection_id))
    connection.execute(delete(collections).where(collections.c.id == collection_id))
