"""The operations that change and delete collections, and that link versions to portfolios."""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.server.artifacts import collections
from parallel_hpo.server.artifacts.collections import CollectionPath
from parallel_hpo.server.graphql.resolvers.collections import tag_nodes
from parallel_hpo.server.graphql.resolvers.context import Info, Resolver, context
from parallel_hpo.server.graphql.resolvers.ids import ARTIFACT, COLLECTION, key_of
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store import artifacts
from parallel_hpo.server.store.artifact_records import Collection
from parallel_hpo.server.world import DEFAULT_ENTITY, DEFAULT_PROJECT, World

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
    return {"artifactCollection": collections.change(context(info).world, key, changes)}


def _delete(id_name: str) -> Resolver:
    def resolve(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Collection]:
        key = key_of(COLLECTION, input[id_name])
        return {"artifactCollection": collections.delete(context(info).world, key)}

    return resolve


def _link(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    world = context(info).world
    aliases = [alias["alias"] for alias in input.get("aliases") or []]
    key = _artifact_to_link(world, input)
    member = collections.link(world, key, _path_of_portfolio(world, input), aliases)
    return {"versionIndex": member.version, "artifactMembership": member}


def _artifact_to_link(world: World, input: dict[str, Any]) -> int:
    if input.get("artifactID"):
        return key_of(ARTIFACT, input["artifactID"])
    with world.database.read() as transaction:
        key = artifacts.by_client_id(transaction, input.get("clientID") or "")
    if key is None:
        raise RefusedError("the artifact that is to be linked doesn't exist: log it first")
    return key


def _path_of_portfolio(world: World, input: dict[str, Any]) -> CollectionPath:
    """Return where to link to: by the portfolio's id, or by its name, entity and project."""
    if input.get(_ID_OF_PORTFOLIO):
        found = collections.find(world, key_of(COLLECTION, input[_ID_OF_PORTFOLIO]))
        return CollectionPath(found.entity, found.project, found.name)
    return CollectionPath(
        input.get("entityName") or DEFAULT_ENTITY,
        input.get("projectName") or DEFAULT_PROJECT,
        input.get("artifactPortfolioName") or "",
    )


def _unlink(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    key = key_of(ARTIFACT, input["artifactID"])
    collections.unlink(context(info).world, key, key_of(COLLECTION, input[_ID_OF_PORTFOLIO]))
    return {"success": True}


def _add_tags(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    names = _tag_names(input)
    collections.tag(context(info).world, _path_of_tagged(input), added=names)
    return {"tags": tag_nodes(sorted(names))}


def _delete_tags(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    collections.tag(context(info).world, _path_of_tagged(input), removed=_tag_names(input))
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
