"""Artifacts and their memberships in collections: fields, and the operations on them."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from parallel_hpo.server.artifacts import contents, versions
from parallel_hpo.server.artifacts.contents import check_region
from parallel_hpo.server.artifacts.versions import AliasChange, ArtifactChanges, ArtifactFields
from parallel_hpo.server.context import DEFAULT_ENTITY, DEFAULT_PROJECT
from parallel_hpo.server.graphql.resolvers.collections import Alias, kind_of, tag_nodes
from parallel_hpo.server.graphql.resolvers.context import (
    ARTIFACT,
    Info,
    Page,
    Resolver,
    constant,
    context,
    key_of,
    make_id,
    only,
    page,
    reading,
    renamed,
    timed,
)
from parallel_hpo.server.graphql.resolvers.files import FileNode
from parallel_hpo.server.graphql.resolvers.projects import user
from parallel_hpo.server.store import artifact_collections, artifact_members, artifacts, runs
from parallel_hpo.server.store.artifact_members import Member
from parallel_hpo.server.store.artifacts import COMMITTED, PENDING, Artifact, Entry
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError, read_object


def _artifact(_source: Any, info: Info, id: str) -> Artifact | None:
    return artifacts.find(reading(info), key_of(ARTIFACT, id))


def _client_id_mapping(_source: Any, info: Info, clientID: str) -> dict[str, str] | None:
    key = artifacts.by_client_id(reading(info), clientID)
    return None if key is None else {"serverID": make_id(ARTIFACT, key)}


def _aliases(artifact: Artifact, info: Info) -> list[Alias]:
    """Return an artifact's aliases in all of its collections, with its number in each portfolio.

    wandb client: it finds the number in a portfolio only among the aliases.
    """
    found = artifact_collections.aliases_with_collections(reading(info), artifact.id)
    _, *links = artifact_members.of_artifact(reading(info), artifact)
    numbers = [Alias(f"v{link.version}", link.collection) for link in links]
    return [*(Alias(*each) for each in found), *numbers]


def _aliases_there(member: Member, info: Info) -> list[Alias]:
    """Return a version's aliases in the membership's collection."""
    found = _aliases(member.artifact, info)
    return [alias for alias in found if alias.artifact_collection.id == member.collection.id]


def _memberships(artifact: Artifact, info: Info) -> dict[str, Any]:
    return {"edges": only(artifact_members.of_artifact(reading(info), artifact))}


def _commit_hash(artifact: Artifact, _info: Info) -> str | None:
    """Return a hash that is unique and permanent once the version is committed."""
    if artifact.version is None:
        return None
    facts = (artifact.collection.id, artifact.version, artifact.digest, artifact.created_at)
    return hashlib.md5(repr(facts).encode(), usedforsecurity=False).hexdigest()


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
    entries = artifacts.files_of(reading(info), artifact.id, wanted)
    return page([_file(artifact, entry) for entry in entries], after, first)


def _files_by_entries(
    artifact: Artifact,
    info: Info,
    entries: list[dict[str, Any]] | None = None,
    after: str | None = None,
    first: int | None = None,
    storageRegion: str | None = None,
    **_layout: Any,
) -> Page[FileNode]:
    check_region(storageRegion)
    return _files(artifact, info, [entry["name"] for entry in entries or []], after, first)


def _file(artifact: Artifact, entry: Entry) -> FileNode:
    file_ref = contents.blob_of(entry.digest) if entry.ref is None else None
    return FileNode(
        id=f"{make_id(ARTIFACT, artifact.id)}:{entry.path}",
        name=entry.path,
        size_bytes=entry.size,
        md5=None if file_ref is None else file_ref.name,
        updated_at=artifact.updated_at,
        file_ref=file_ref,
        ref=entry.ref,
        artifact=artifact,
    )


def _manifest(artifact: Artifact, _info: Info) -> dict[str, Any] | None:
    """Return a committed artifact's manifest."""
    if artifact.state != COMMITTED:
        return None
    name = make_id(ARTIFACT, artifact.id)
    return {"id": name, "file": FileNode(name, "manifest", file_ref=contents.manifest_of(artifact.id))}


def _of_run(kind: str) -> Resolver:
    listed = artifacts.used_by_run if kind == "input" else artifacts.outputs_of_run

    def resolve(run: Run, info: Info, after: str | None = None, first: int | None = None) -> Page[Member]:
        return page([artifact_members.own(each) for each in listed(reading(info), run.id)], after, first)

    return resolve


QUERY: Final[dict[str, Resolver]] = {"artifact": _artifact, "clientIDMapping": _client_id_mapping}
RUN: Final[dict[str, Resolver]] = {"inputArtifacts": _of_run("input"), "outputArtifacts": _of_run("output")}
ARTIFACT_FIELDS: Final[dict[str, Resolver]] = {
    "id": lambda artifact, _info: make_id(ARTIFACT, artifact.id),
    "artifactSequence": renamed("collection"),
    "artifactType": lambda artifact, info: kind_of(artifact.collection, info),
    "versionIndex": renamed("version"),
    "digestAlgorithm": constant("MANIFEST_MD5"),
    "tags": lambda artifact, _info: tag_nodes(json.loads(artifact.tags)),
    "aliases": _aliases,
    # wandb client: null is an error, and a value below 1 means no limit.
    "ttlDurationSeconds": lambda artifact, _info: -1 if artifact.ttl_s is None else artifact.ttl_s,
    "ttlIsInherited": constant(False),
    "commitHash": _commit_hash,
    "createdAt": timed("created_at"),
    "updatedAt": timed("updated_at"),
    "createdBy": _created_by,
    "usedBy": _used_by,
    "currentManifest": _manifest,
    "artifactMemberships": _memberships,
    "files": _files,
    "filesByManifestEntries": _files_by_entries,
}
MEMBERSHIP: Final[dict[str, Resolver]] = {
    "id": lambda member, _info: f"{member.collection.id}:{make_id(ARTIFACT, member.artifact.id)}",
    "versionIndex": renamed("version"),
    "createdAt": timed("since"),
    "aliases": _aliases_there,
    "artifactCollection": renamed("collection"),
    "files": lambda member, info, **options: _files(member.artifact, info, **options),
}


_MAX_FILES: Final = 10_000
_NOT_TOGETHER: Final = "artifacts that several runs write together are not supported here: use log_artifact"


def _create(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    if input.get("distributedID"):
        raise RefusedError(_NOT_TOGETHER)
    check_region(input.get("storageRegion"))
    names = [input.get("artifactCollectionName"), *(input.get("artifactCollectionNames") or [])]
    if input.get("metadata"):
        read_object(input["metadata"], "the artifact's metadata")
    request = ArtifactFields(
        entity=input["entityName"] or DEFAULT_ENTITY,
        project=input["projectName"] or DEFAULT_PROJECT,
        collection=next((name for name in names if name), ""),
        type=input["artifactTypeName"],
        digest=input["digest"],
        run=input.get("runName"),
        client_id=input.get("clientID"),
        description=input.get("description"),
        metadata=input.get("metadata"),
        aliases=tuple(alias["alias"] for alias in input.get("aliases") or []),
        tags=_tag_names(input.get("tags")),
        history_step=input.get("historyStep"),
        ttl_s=input.get("ttlDurationSeconds"),
    )
    return {"artifact": versions.create(context(info).app, request)}


def _create_manifest(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    if input.get("type") == "PATCH":
        raise RefusedError(_NOT_TOGETHER)
    key = key_of(ARTIFACT, input["artifactID"])
    if input.get("type") == "INCREMENTAL":
        versions.expect_increment(context(info).app, key)
    return _manifest_to_send(info, key)


def _update_manifest(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    return _manifest_to_send(info, key_of(ARTIFACT, input["artifactManifestID"]))


def _manifest_to_send(info: Info, artifact_id: int) -> dict[str, Any]:
    with context(info).app.database.read() as transaction:
        artifact = versions.changeable(transaction, artifact_id)
    if artifact.state != PENDING:
        raise RefusedError("this artifact is committed already")
    name = make_id(ARTIFACT, artifact_id)
    file_ref = contents.manifest_of(artifact_id)
    return {
        "artifactManifest": {"id": name, "file": FileNode(name, "manifest", file_ref=file_ref, expected=True)}
    }


def _create_files(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Page[FileNode]]:
    if len(input["artifactFiles"]) > _MAX_FILES:
        raise RefusedError(f"more than {_MAX_FILES} files at once")
    check_region(input.get("storageRegion"))
    app = context(info).app
    known: dict[int, Artifact] = {}
    nodes = []
    with app.database.write() as transaction:
        for spec in input["artifactFiles"]:
            key = key_of(ARTIFACT, spec["artifactID"])
            if key not in known:
                known[key] = versions.touch(transaction, key, app.clock())
            file_ref = contents.blob_of(spec["md5"])
            expected = not contents.protect(transaction, app, file_ref)
            file_id = f"{spec['artifactID']}:{spec['name']}"
            nodes.append(
                FileNode(
                    file_id,
                    spec["name"],
                    md5=file_ref.name,
                    file_ref=file_ref,
                    artifact=known[key],
                    expected=expected,
                )
            )
    return {"files": page(nodes, None, None)}


def _commit(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    return {"artifact": versions.commit(context(info).app, key_of(ARTIFACT, input["artifactID"]))}


def _update(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    app, key = context(info).app, key_of(ARTIFACT, input["artifactID"])
    columns = {"description": "description", "metadata": "metadata", "ttlDurationSeconds": "ttl_s"}
    changes = {column: input[name] for name, column in columns.items() if input.get(name) is not None}
    if "metadata" in changes:
        read_object(changes["metadata"], "the artifact's metadata")
    if input.get("aliases") is not None:
        versions.add_aliases(app, key, _alias_wishes(input))
    tags = (_tag_names(input.get("tagsToAdd")), _tag_names(input.get("tagsToDelete")))
    return {"artifact": versions.update(app, key, ArtifactChanges(changes, *tags))}


def _delete(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    key = key_of(ARTIFACT, input["artifactID"])
    with_aliases = bool(input.get("deleteAliases"))
    return {"artifact": versions.delete(context(info).app, key, with_aliases=with_aliases)}


def _use(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    path = RunPath(input["entityName"], input["projectName"], input["runName"])
    return {"artifact": versions.use(context(info).app, key_of(ARTIFACT, input["artifactID"]), path)}


def _add_aliases(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    key = key_of(ARTIFACT, input["artifactID"])
    versions.add_aliases(context(info).app, key, _alias_wishes(input))
    return {"success": True}


def _delete_aliases(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    key = key_of(ARTIFACT, input["artifactID"])
    versions.delete_aliases(context(info).app, key, _alias_wishes(input))
    return {"success": True}


def _alias_wishes(input: dict[str, Any]) -> list[AliasChange]:
    names = ("alias", "entityName", "projectName", "artifactCollectionName")
    return [AliasChange(*(alias.get(name) for name in names)) for alias in input["aliases"]]


def _tag_names(tags: list[dict[str, Any]] | None) -> tuple[str, ...]:
    return tuple(tag["tagName"] for tag in tags or [])


MUTATION: Final[dict[str, Resolver]] = {
    "createArtifact": _create,
    "createArtifactManifest": _create_manifest,
    "updateArtifactManifest": _update_manifest,
    "createArtifactFiles": _create_files,
    "commitArtifact": _commit,
    "updateArtifact": _update,
    "deleteArtifact": _delete,
    "useArtifact": _use,
    "addAliases": _add_aliases,
    "deleteAliases": _delete_aliases,
}
