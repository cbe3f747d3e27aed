"""Clients' requests on collections: change, tag, delete, and links of versions to portfolios.

A portfolio is created by its first link, in any project of this server, and accepts one type. A version
has a number and aliases of its own in each portfolio.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parallel_hpo.server.artifacts import versions
from parallel_hpo.server.artifacts.contents import LATEST, check_name, check_no_registry, check_tag
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.store import artifact_collections, artifact_members, projects
from parallel_hpo.server.store.artifact_members import Member
from parallel_hpo.server.store.artifacts import COMMITTED, Artifact, Collection
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.values import RefusedError


def find(app: AppContext, collection_id: int) -> Collection:
    """Return the collection with this id; RefusedError if there is none."""
    with app.database.read() as transaction:
        return _existing(transaction, collection_id)


def change(app: AppContext, collection_id: int, changes: dict[str, Any]) -> Collection:
    """Change a collection's name, type or description, and return it."""
    for name in ("name", "type"):
        if name in changes:
            check_name(changes[name])
    with app.database.write() as transaction:
        collection = _existing(transaction, collection_id)
        if changes:
            _changeable_members(transaction, collection)
            _check_free(transaction, collection, changes.get("name", collection.name))
            changed = changes | {"updated_at": app.clock()}
            artifact_collections.change(transaction, collection_id, changed)
        return _existing(transaction, collection_id)


@dataclass(frozen=True, slots=True)
class CollectionPath:
    """The path of a sequence or portfolio."""

    entity: str
    project: str
    name: str


def tag(
    app: AppContext, path: CollectionPath, *, added: Sequence[str] = (), removed: Sequence[str] = ()
) -> Collection:
    """Add and remove tags of a collection, and return it; RefusedError if it doesn't exist."""
    for name in added:
        check_tag(name)
    with app.database.write() as transaction:
        collection = _at(transaction, path)
        _changeable_members(transaction, collection)
        tags = sorted({*collection.tag_names, *added} - set(removed))
        changes = {"tags": json.dumps(tags), "updated_at": app.clock()}
        artifact_collections.change(transaction, collection.id, changes)
        return _existing(transaction, collection.id)


def _at(transaction: Transaction, path: CollectionPath) -> Collection:
    project = projects.find(transaction, path.entity, path.project)
    found = None if project is None else artifact_collections.find(transaction, project.id, path.name)
    if found is None:
        raise RefusedError(f"collection {path.entity}/{path.project}/{path.name} doesn't exist")
    return found


def _check_free(transaction: Transaction, collection: Collection, name: str) -> None:
    other = artifact_collections.find(transaction, collection.project_id, name)
    if other is not None and other.id != collection.id:
        raise RefusedError(
            f"project {collection.project!r} has a collection {name!r} already, "
            f"so {collection.name!r} can't get this name: choose another one, or delete that collection first"
        )


def delete(app: AppContext, collection_id: int) -> Collection:
    """Delete and return a sequence with its versions, or a portfolio with its links."""
    with app.database.read() as transaction:
        collection = _existing(transaction, collection_id)
        members = _changeable_members(transaction, collection)
    for member in () if collection.is_portfolio else members:
        versions.delete(app, member.artifact.id, with_aliases=True)
    with app.database.write() as transaction:
        for link in _changeable_members(transaction, collection) if collection.is_portfolio else ():
            artifact_members.unlink(transaction, link)
        artifact_collections.remove(transaction, collection_id)
    return collection


def _existing(transaction: Transaction, collection_id: int) -> Collection:
    collection = artifact_collections.with_key(transaction, collection_id)
    if collection is None:
        raise RefusedError("this collection doesn't exist, or was deleted")
    return collection


def _changeable_members(transaction: Transaction, collection: Collection) -> list[Member]:
    """Return a collection's versions; RefusedError if the caller may not change one of them."""
    members = artifact_members.of_collection(transaction, collection)
    for member in members:
        versions.changeable(transaction, member.artifact.id)
    return members


def link(app: AppContext, artifact_id: int, path: CollectionPath, aliases: Sequence[str]) -> Member:
    """Link a version to a portfolio as its latest one; a linked version only gets the aliases."""
    check_no_registry(path.project)
    for name in (path.name, *aliases):
        check_name(name)
    now = app.clock()
    with app.database.write() as transaction:
        artifact = versions.changeable(transaction, artifact_id)
        if artifact.state != COMMITTED:
            raise RefusedError("the artifact is not committed yet, so it can't be linked")
        portfolio = _portfolio(transaction, path, artifact, now)
        member = artifact_members.link(transaction, portfolio, artifact, now)
        is_new = member.version == portfolio.next_link
        wanted = [*aliases, LATEST] if is_new else aliases
        artifact_collections.put_aliases(transaction, portfolio.id, artifact_id, wanted)
    return member


def _portfolio(transaction: Transaction, path: CollectionPath, artifact: Artifact, now: float) -> Collection:
    kind = artifact.collection.type
    project = projects.ensure(transaction, path.entity, path.project, now)
    found = artifact_collections.ensure(transaction, project, path.name, kind, now, portfolio=True)
    if not found.is_portfolio:
        raise RefusedError(
            f"versions are logged to {path.name!r}, so none can be linked to it: "
            "give the portfolio another name"
        )
    if found.type != kind:
        raise RefusedError(
            f"portfolio {path.name!r} has the type {found.type!r}, so it accepts no artifact of type {kind!r}"
        )
    return found


def unlink(app: AppContext, artifact_id: int, collection_id: int) -> None:
    """Delete a version's link to a portfolio; it stays in its sequence."""
    with app.database.write() as transaction:
        artifact = versions.changeable(transaction, artifact_id)
        _, *links = artifact_members.of_artifact(transaction, artifact)
        member = next((each for each in links if each.collection.id == collection_id), None)
        if member is None:
            raise RefusedError("the artifact is not linked to this portfolio")
        versions.unlink(transaction, member)
