"""The operations that create, change, use and delete artifacts."""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.server.artifacts import blobs, contents, versions
from parallel_hpo.server.artifacts.names import check_region
from parallel_hpo.server.artifacts.versions import AliasWish, ArtifactChanges, ArtifactWishes
from parallel_hpo.server.graphql.resolvers.context import Info, Page, Resolver, context, page
from parallel_hpo.server.graphql.resolvers.files import FileNode
from parallel_hpo.server.graphql.resolvers.ids import ARTIFACT, key_of, make_id
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store.artifact_records import PENDING, Artifact
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import read_object
from parallel_hpo.server.world import DEFAULT_ENTITY, DEFAULT_PROJECT

_MOST_FILES: Final = 10_000
_NOT_TOGETHER: Final = "artifacts that several runs write together are not supported here: use log_artifact"


def _create(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    if input.get("distributedID"):
        raise RefusedError(_NOT_TOGETHER)
    check_region(input.get("storageRegion"))
    names = [input.get("artifactCollectionName"), *(input.get("artifactCollectionNames") or [])]
    if input.get("metadata"):
        read_object(input["metadata"], "the artifact's metadata")
    wishes = ArtifactWishes(
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
    return {"artifact": versions.create(context(info).world, wishes)}


def _create_manifest(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    if input.get("type") == "PATCH":
        raise RefusedError(_NOT_TOGETHER)
    key = key_of(ARTIFACT, input["artifactID"])
    if input.get("type") == "INCREMENTAL":
        versions.expect_increment(context(info).world, key)
    return _manifest_to_send(info, key)


def _update_manifest(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    return _manifest_to_send(info, key_of(ARTIFACT, input["artifactManifestID"]))


def _manifest_to_send(info: Info, artifact_id: int) -> dict[str, Any]:
    with context(info).world.database.read() as transaction:
        artifact = versions.changeable(transaction, artifact_id)
    if artifact.state != PENDING:
        raise RefusedError("this artifact is committed already")
    name = make_id(ARTIFACT, artifact_id)
    place = contents.manifest_of(artifact_id)
    return {"artifactManifest": {"id": name, "file": FileNode(name, "manifest", place=place, expected=True)}}


def _create_files(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Page[FileNode]]:
    if len(input["artifactFiles"]) > _MOST_FILES:
        raise RefusedError(f"more than {_MOST_FILES} files at once")
    check_region(input.get("storageRegion"))
    world = context(info).world
    known: dict[int, Artifact] = {}
    nodes = []
    with world.database.write() as transaction:
        for spec in input["artifactFiles"]:
            key = key_of(ARTIFACT, spec["artifactID"])
            if key not in known:
                known[key] = versions.expecting_files(transaction, key, world.clock())
            place = contents.place_of(spec["md5"])
            expected = not blobs.claim(transaction, world, place)
            file_id = f"{spec['artifactID']}:{spec['name']}"
            nodes.append(
                FileNode(
                    file_id, spec["name"], md5=place.name, place=place, artifact=known[key], expected=expected
                )
            )
    return {"files": page(nodes, None, None)}


def _commit(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    return {"artifact": versions.commit(context(info).world, key_of(ARTIFACT, input["artifactID"]))}


def _update(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    world, key = context(info).world, key_of(ARTIFACT, input["artifactID"])
    columns = {"description": "description", "metadata": "metadata", "ttlDurationSeconds": "ttl_s"}
    changes = {column: input[name] for name, column in columns.items() if input.get(name) is not None}
    if "metadata" in changes:
        read_object(changes["metadata"], "the artifact's metadata")
    if input.get("aliases") is not None:
        versions.add_aliases(world, key, _alias_wishes(input))
    tags = (_tag_names(input.get("tagsToAdd")), _tag_names(input.get("tagsToDelete")))
    return {"artifact": versions.update(world, key, ArtifactChanges(changes, *tags))}


def _delete(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    key = key_of(ARTIFACT, input["artifactID"])
    with_aliases = bool(input.get("deleteAliases"))
    return {"artifact": versions.delete(context(info).world, key, with_aliases=with_aliases)}


def _use(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Artifact]:
    path = RunPath(input["entityName"], input["projectName"], input["runName"])
    return {"artifact": versions.use(context(info).world, key_of(ARTIFACT, input["artifactID"]), path)}


def _add_aliases(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    key = key_of(ARTIFACT, input["artifactID"])
    versions.add_aliases(context(info).world, key, _alias_wishes(input))
    return {"success": True}


def _delete_aliases(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    key = key_of(ARTIFACT, input["artifactID"])
    versions.delete_aliases(context(info).world, key, _alias_wishes(input))
    return {"success": True}


def _alias_wishes(input: dict[str, Any]) -> list[AliasWish]:
    names = ("alias", "entityName", "projectName", "artifactCollectionName")
    return [AliasWish(*(alias.get(name) for name in names)) for alias in input["aliases"]]


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
