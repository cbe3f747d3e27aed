"""Artifacts and their collections: their fields, and where a project and a run have them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.server import artifact_service
from parallel_hpo.server.filters import read_filters
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.resolvers.artifact_ids import ARTIFACT, COLLECTION, key_of, make_id
from parallel_hpo.server.resolvers.context import (
    Info,
    Page,
    Resolver,
    constant,
    only,
    page,
    reading,
    renamed,
    timed,
)
from parallel_hpo.server.resolvers.files import FileNode
from parallel_hpo.server.resolvers.projects import project_of
from parallel_hpo.server.resolvers.viewer import user
from parallel_hpo.server.store import artifacts, runs
from parallel_hpo.server.store.artifacts import COMMITTED, Artifact, Collection, Entry
from parallel_hpo.server.store.records import Project, Run


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias, and the collection in which it means a version."""

    alias: str
    artifact_collection: Collection


@dataclass(frozen=True, slots=True)
class Kind:
    """An artifact type: a word that some of a project's collections have."""

    name: str
    project: Project


@dataclass(frozen=True, slots=True)
class Membership:
    """A version in its collection."""

    artifact: Artifact


def _artifact(_source: Any, info: Info, id: str) -> Artifact | None:
    return artifacts.find(reading(info), key_of(ARTIFACT, id))


def _collection_with(_source: Any, info: Info, id: str) -> Collection | None:
    return artifacts.collection_with(reading(info), key_of(COLLECTION, id))


def _client_id_mapping(_source: Any, info: Info, clientID: str) -> dict[str, str] | None:
    key = artifacts.by_client_id(reading(info), clientID)
    return None if key is None else {"serverID": make_id(ARTIFACT, key)}


def _named(project: Project, info: Info, name: str) -> Artifact | None:
    """Return the version that `collection:alias` names, `latest` where it has no alias."""
    collection_name, _, alias = name.partition(":")
    found = artifacts.collection(reading(info), project.id, collection_name)
    if found is None:
        return None
    return artifacts.by_alias(reading(info), found.id, alias or artifact_service.LATEST)


def _membership(project: Project, info: Info, name: str) -> Membership | None:
    found = _named(project, info, name)
    return None if found is None else Membership(found)


def _type(project: Project, info: Info, name: str) -> Kind | None:
    return Kind(name, project) if artifacts.collections_of(reading(info), project.id, name) else None


def _types(project: Project, info: Info, after: str | None = None, first: int | None = None) -> Page[Kind]:
    names = {collection.type for collection in artifacts.collections_of(reading(info), project.id)}
    return page([Kind(name, project) for name in sorted(names)], after, first)


def _collection(project: Project, info: Info, name: str) -> Collection | None:
    return artifacts.collection(reading(info), project.id, name)


def _collections(
    project: Project,
    info: Info,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
) -> Page[Collection]:
    _only_all(filters)
    return page(artifacts.collections_of(reading(info), project.id), after, first)


def _collection_of_type(kind: Kind, info: Info, name: str) -> Collection | None:
    found = artifacts.collection(reading(info), kind.project.id, name)
    return found if found is not None and found.type == kind.name else None


def _collections_of_type(
    kind: Kind,
    info: Info,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
) -> Page[Collection]:
    _only_all(filters)
    return page(artifacts.collections_of(reading(info), kind.project.id, kind.name), after, first)


def _versions(
    collection: Collection,
    info: Info,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
    filters: str | None = None,
) -> Page[Artifact]:
    _only_all(filters)
    return page(artifacts.versions(reading(info), collection.id), after, first)


def _only_all(filters: str | None) -> None:
    """Refuse filters, but for the one that wandb's client sends by itself, which changes nothing."""
    if filters and read_filters(filters) not in ({}, {"state": COMMITTED}):
        raise RefusedError("artifacts and collections can't be filtered here: list them all, and choose")


def _in_collection(collection: Collection, info: Info, aliasName: str) -> Membership | None:
    found = artifacts.by_alias(reading(info), collection.id, aliasName)
    return None if found is None else Membership(found)


def _collection_aliases(
    collection: Collection, info: Info, after: str | None = None, first: int | None = None
) -> Page[Alias]:
    names = artifacts.aliases_of_collection(reading(info), collection.id)
    return page([Alias(name, collection) for name in names], after, first)


def _aliases(artifact: Artifact, info: Info) -> list[Alias]:
    return [Alias(name, artifact.collection) for name in artifacts.aliases(reading(info), artifact.id)]


def _created_by(artifact: Artifact, info: Info) -> Any:
    run = None if artifact.run_id is None else runs.find(reading(info), artifact.run_id)
    return user() if run is None else run


def _used_by(artifact: Artifact, info: Info) -> Page[Run]:
    found = (runs.find(reading(info), key) for key in artifacts.users(reading(info), artifact.id))
    return page([run for run in found if run is not None], None, None)


def _files(
    artifact: Artifact,
    info: Info,
    names: list[str | None] | None = None,
    after: str | None = None,
    first: int | None = None,
) -> Page[FileNode]:
    wanted = [name for name in names or [] if name is not None]
    entries = artifacts.files(reading(info), artifact.id, wanted)
    return page([_file(artifact, entry) for entry in entries], after, first)


def _files_by_entries(
    artifact: Artifact,
    info: Info,
    entries: list[dict[str, Any]] | None = None,
    after: str | None = None,
    first: int | None = None,
    **_layout: Any,
) -> Page[FileNode]:
    return _files(artifact, info, [entry["name"] for entry in entries or []], after, first)


def _file(artifact: Artifact, entry: Entry) -> FileNode:
    place = artifact_service.place_of(entry.digest) if entry.ref is None else None
    return FileNode(
        id=f"{make_id(ARTIFACT, artifact.id)}:{entry.path}",
        name=entry.path,
        size_bytes=entry.size,
        md5=None if place is None else place.name,
        updated_at=artifact.updated_at,
        place=place,
        ref=entry.ref,
        artifact=artifact,
    )


def _manifest(artifact: Artifact, _info: Info) -> dict[str, Any] | None:
    """Return the manifest of a committed artifact."""
    if artifact.state != COMMITTED:
        return None
    name = make_id(ARTIFACT, artifact.id)
    return {"id": name, "file": FileNode(name, "manifest", place=artifact_service.manifest_of(artifact.id))}


def _kind(artifact: Artifact, info: Info) -> Kind:
    return _kind_of_collection(artifact.collection, info)


def _kind_of_collection(collection: Collection, info: Info) -> Kind:
    return Kind(collection.type, project_of(collection, info))


def _of_run(kind: str) -> Resolver:
    listed = artifacts.used_by_run if kind == "input" else artifacts.logged_by_run

    def resolve(run: Run, info: Info, after: str | None = None, first: int | None = None) -> Page[Artifact]:
        return page(listed(reading(info), run.id), after, first)

    return resolve


QUERY: Final[dict[str, Resolver]] = {
    "artifact": _artifact,
    "artifactCollection": _collection_with,
    "clientIDMapping": _client_id_mapping,
}
PROJECT: Final[dict[str, Resolver]] = {
    "artifact": _named,
    "artifactType": _type,
    "artifactTypes": _types,
    "artifactCollection": _collection,
    "artifactCollections": _collections,
    "artifactCollectionMembership": _membership,
}
RUN: Final[dict[str, Resolver]] = {"inputArtifacts": _of_run("input"), "outputArtifacts": _of_run("output")}
ARTIFACT_FIELDS: Final[dict[str, Resolver]] = {
    "id": lambda artifact, _info: make_id(ARTIFACT, artifact.id),
    "artifactSequence": renamed("collection"),
    "artifactType": _kind,
    "versionIndex": renamed("version"),
    "digestAlgorithm": constant("MANIFEST_MD5"),
    "tags": lambda artifact, _info: [{"id": name, "name": name} for name in json.loads(artifact.tags)],
    "aliases": _aliases,
    # wandb client: null is an error to it, and what isn't above 0 is no limit.
    "ttlDurationSeconds": lambda artifact, _info: -1 if artifact.ttl_s is None else artifact.ttl_s,
    "ttlIsInherited": constant(False),
    "commitHash": constant(None),
    "createdAt": timed("created_at"),
    "updatedAt": timed("updated_at"),
    "createdBy": _created_by,
    "usedBy": _used_by,
    "currentManifest": _manifest,
    "artifactMemberships": lambda artifact, _info: {"edges": only([Membership(artifact)])},
    "files": _files,
    "filesByManifestEntries": _files_by_entries,
}
MEMBERSHIP: Final[dict[str, Resolver]] = {
    "id": lambda member, _info: make_id(ARTIFACT, member.artifact.id),
    "versionIndex": lambda member, _info: member.artifact.version,
    "createdAt": lambda member, info: timed("created_at")(member.artifact, info),
    "aliases": lambda member, info: _aliases(member.artifact, info),
    "artifactCollection": lambda member, _info: member.artifact.collection,
    "files": lambda member, info, **options: _files(member.artifact, info, **options),
}
ALIAS: Final[dict[str, Resolver]] = {
    "id": lambda alias, _info: f"{alias.artifact_collection.id}:{alias.alias}"
}
TYPE: Final[dict[str, Resolver]] = {
    "id": lambda kind, _info: f"{kind.project.id}:{kind.name}",
    "description": constant(None),
    "createdAt": lambda kind, info: timed("created_at")(kind.project, info),
    "artifactCollection": _collection_of_type,
    "artifactCollections": _collections_of_type,
}
SEQUENCE: Final[dict[str, Resolver]] = {
    "id": lambda collection, _info: make_id(COLLECTION, collection.id),
    "state": constant("READY"),
    "createdAt": timed("created_at"),
    "updatedAt": timed("updated_at"),
    "project": project_of,
    "defaultArtifactType": _kind_of_collection,
    "tags": constant({"edges": []}),
    "aliases": _collection_aliases,
    "artifacts": _versions,
    "artifactMembership": _in_collection,
    "latestArtifact": lambda collection, info: artifacts.latest(reading(info), collection.id),
    "digestAlgorithm": constant("MANIFEST_MD5"),
}
