"""Collections of artifacts (sequences and portfolios): fields, and the operations on them and on links."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.server.artifacts import collections
from parallel_hpo.server.artifacts.collections import CollectionPath
from parallel_hpo.server.artifacts.contents import LATEST
from parallel_hpo.server.context import DEFAULT_ENTITY, DEFAULT_PROJECT, AppContext
from parallel_hpo.server.graphql.resolvers.context import (
    ARTIFACT,
    COLLECTION,
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
    timed,
)
from parallel_hpo.server.graphql.resolvers.projects import project_of
from parallel_hpo.server.store import artifact_collections, artifact_members, artifacts
from parallel_hpo.server.store.artifact_members import Member
from parallel_hpo.server.store.artifacts import COMMITTED, Artifact, Collection
from parallel_hpo.server.store.filters import read_filters
from parallel_hpo.server.store.records import Project
from parallel_hpo.server.values import RefusedError

_ORDERS: Final[dict[str, Callable[[Member], float]]] = {
    "version_index": lambda member: member.version or 0,
    "created_at": lambda member: member.since,
    "updated_at": lambda member: member.artifact.updated_at,
}


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias and its collection."""

    alias: str
    artifact_collection: Collection


@dataclass(frozen=True, slots=True)
class Kind:
    """An artifact type of a project."""

    name: str
    project: Project


def _with_key(_source: Any, info: Info, id: str) -> Collection | None:
    return artifact_collections.with_key(reading(info), key_of(COLLECTION, id))


def _named(project: Project, info: Info, name: str) -> Member | None:
    """Return the version of `collection:alias`; the default alias is `latest`."""
    collection_name, _, alias = name.partition(":")
    found = artifact_collections.find(reading(info), project.id, collection_name)
    return None if found is None else artifact_members.named(reading(info), found, alias or LATEST)


def _artifact(project: Project, info: Info, name: str) -> Artifact | None:
    found = _named(project, info, name)
    return None if found is None else found.artifact


def _type(project: Project, info: Info, name: str) -> Kind | None:
    known = artifact_collections.of_project(reading(info), project.id, name)
    return Kind(name, project) if known else None


def _types(project: Project, info: Info, after: str | None = None, first: int | None = None) -> Page[Kind]:
    names = {collection.type for collection in artifact_collections.of_project(reading(info), project.id)}
    return page([Kind(name, project) for name in sorted(names)], after, first)


def _collection(project: Project, info: Info, name: str) -> Collection | None:
    return artifact_collections.find(reading(info), project.id, name)


def _collections(
    project: Project,
    info: Info,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
) -> Page[Collection]:
    _only_all(filters)
    return page(artifact_collections.of_project(reading(info), project.id), after, first)


def _collection_of_type(kind: Kind, info: Info, name: str) -> Collection | None:
    found = artifact_collections.find(reading(info), kind.project.id, name)
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
    return page(artifact_collections.of_project(reading(info), kind.project.id, kind.name), after, first)


def _versions(
    collection: Collection,
    info: Info,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
    filters: str | None = None,
) -> Page[Member]:
    _only_all(filters)
    members = artifact_members.of_collection(reading(info), collection)
    return page(_in_order(members, order), after, first)


def _in_order(members: list[Member], order: str | None) -> list[Member]:
    """Sort versions by an order such as `version_index` or `-created_at`, if there is one."""
    if not order:
        return members
    key = _ORDERS.get(order.removeprefix("+").removeprefix("-"))
    if key is None:
        raise RefusedError(
            f"order {order[:40]!r}: one of {', '.join(_ORDERS)}, with an optional + or - before it"
        )
    return sorted(members, key=key, reverse=order.startswith("-"))


def _only_all(filters: str | None) -> None:
    """Raise RefusedError for filters other than wandb client's default, which has no effect."""
    if filters and read_filters(filters) not in ({}, {"state": COMMITTED}):
        raise RefusedError("this server can't filter artifacts and collections: list all of them, and select")


def _member(collection: Collection, info: Info, aliasName: str) -> Member | None:
    return artifact_members.named(reading(info), collection, aliasName)


def _aliases(
    collection: Collection, info: Info, after: str | None = None, first: int | None = None
) -> Page[Alias]:
    names = artifact_collections.aliases_in(reading(info), collection.id)
    return page([Alias(name, collection) for name in names], after, first)


def tag_nodes(names: Iterable[str]) -> list[dict[str, str]]:
    """Return tags as nodes."""
    return [{"id": name, "name": name} for name in names]


def kind_of(collection: Collection, info: Info) -> Kind:
    """Return a collection's type."""
    return Kind(collection.type, project_of(collection, info))


QUERY: Final[dict[str, Resolver]] = {"artifactCollection": _with_key}
PROJECT: Final[dict[str, Resolver]] = {
    "artifact": _artifact,
    "artifactType": _type,
    "artifactTypes": _types,
    "artifactCollection": _collection,
    "artifactCollections": _collections,
    "artifactCollectionMembership": _named,
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
PORTFOLIO: Final[dict[str, Resolver]] = {
    "id": lambda collection, _info: make_id(COLLECTION, collection.id),
    "state": constant("READY"),
    "createdAt": timed("created_at"),
    "updatedAt": timed("updated_at"),
    "project": project_of,
    "defaultArtifactType": kind_of,
    "tags": lambda collection, _info: {"edges": only(tag_nodes(collection.tag_names))},
    "aliases": _aliases,
    "artifacts": _versions,
    "artifactMembership": _member,
}
SEQUENCE: Final[dict[str, Resolver]] = PORTFOLIO | {
    "latestArtifact": lambda collection, info: artifacts.latest(reading(info), collection.id),
    "digestAlgorithm": constant("MANIFEST_MD5"),
}
EDGE: Final[dict[str, Resolver]] = {
    "node": lambda edge, _info: edge.node.artifact,
    "version": lambda edge, _info: f"v{edge.node.version}",
}


_ID_OF_SEQUENCE: Final = "artifactSequenceID"
_ID_OF_PORTFOLIO: Final = "artifactPortfolioID"


def _update(id_name: str) -> Resolver:
    def resolve(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Collection]:
        changes = {name: input[name] for name in ("name", "description") if input.get(name) is not None}
        return _changed(info, key_of(COLLECTION, input[id_name]), changes)

    return resolve


def _move(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Collection]:
    key = key_of(COLLECTION, input[_ID_OF_SEQUENCE])
    return _changed(info, key, {"type": input["destinationArtifactTypeName"]})


def _changed(info: Info, key: int, changes: dict[str, Any]) -> dict[str, Collection]:
    return {"artifactCollection": collections.change(context(info).app, key, changes)}


def _delete(id_name: str) -> Resolver:
    def resolve(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Collection]:
        key = key_of(COLLECTION, input[id_name])
        return {"artifactCollection": collections.delete(context(info).app, key)}

    return resolve


def _link(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    app = context(info).app
    aliases = [alias["alias"] for alias in input.get("aliases") or []]
    key = _artifact_to_link(app, input)
    member = collections.link(app, key, _path_of_portfolio(app, input), aliases)
    return {"versionIndex": member.version, "artifactMembership": member}


def _artifact_to_link(app: AppContext, input: dict[str, Any]) -> int:
    if input.get("artifactID"):
        return key_of(ARTIFACT, input["artifactID"])
    with app.database.read() as transaction:
        key = artifacts.by_client_id(transaction, input.get("clientID") or "")
    if key is None:
        raise RefusedError("the artifact to link doesn't exist: log it first")
    return key


def _path_of_portfolio(app: AppContext, input: dict[str, Any]) -> CollectionPath:
    """Return the portfolio's path, given by its id, or by name, entity and project."""
    if input.get(_ID_OF_PORTFOLIO):
        found = collections.find(app, key_of(COLLECTION, input[_ID_OF_PORTFOLIO]))
        return CollectionPath(found.entity, found.project, found.name)
    return CollectionPath(
        input.get("entityName") or DEFAULT_ENTITY,
        input.get("projectName") or DEFAULT_PROJECT,
        input.get("artifactPortfolioName") or "",
    )


def _unlink(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    key = key_of(ARTIFACT, input["artifactID"])
    collections.unlink(context(info).app, key, key_of(COLLECTION, input[_ID_OF_PORTFOLIO]))
    return {"success": True}


def _add_tags(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    names = _tag_names(input)
    collections.tag(context(info).app, _path_of_tagged(input), added=names)
    return {"tags": tag_nodes(sorted(names))}


def _delete_tags(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    collections.tag(context(info).app, _path_of_tagged(input), removed=_tag_names(input))
    return {"success": True}


def _path_of_tagged(input: dict[str, Any]) -> CollectionPath:
    return CollectionPath(input["entityName"], input["projectName"], input["artifactCollectionName"])


def _tag_names(input: dict[str, Any]) -> list[str]:
    return [tag["tagName"] for tag in input["tags"]]


MUTATION: Final[dict[str, Resolver]] = {
    "updateArtifactSequence": _update(_ID_OF_SEQUENCE),
    "updateArtifactPortfolio": _update(_ID_OF_PORTFOLIO),
    "moveArtifactSequence": _move,
    "deleteArtifactSequence": _delete(_ID_OF_SEQUENCE),
    "deleteArtifactPortfolio": _delete(_ID_OF_PORTFOLIO),
    "createArtifactCollectionTagAssignments": _add_tags,
    "deleteArtifactCollectionTagAssignments": _delete_tags,
    "linkArtifact": _link,
    "unlinkArtifact": _unlink,
}
