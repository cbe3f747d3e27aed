"""Collections are described, renamed, given another type, deleted: sequences and portfolios alike."""

from __future__ import annotations

from typing import Any

from parallel_hpo.server.artifacts import versions
from parallel_hpo.server.artifacts.names import check_name
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store import artifact_collections, artifact_members
from parallel_hpo.server.store.artifact_members import Member
from parallel_hpo.server.store.artifact_records import Collection
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.world import World


def find(world: World, collection_id: int) -> Collection:
    """Return the collection with this key; RefusedError where there is none."""
    with world.database.read() as transaction:
        return _existing(transaction, collection_id)


def change(world: World, collection_id: int, changes: dict[str, Any]) -> Collection:
    """Change a collection's name, type or description, and return it."""
    for name in ("name", "type"):
        if name in changes:
            check_name(changes[name])
    with world.database.write() as transaction:
        collection = _existing(transaction, collection_id)
        if changes:
            _changeable_members(transaction, collection)
            _check_free(transaction, collection, changes.get("name", collection.name))
            changed = changes | {"updated_at": world.clock()}
            artifact_collections.change(transaction, collection_id, changed)
        return _existing(transaction, collection_id)


def _check_free(transaction: Transaction, collection: Collection, name: str) -> None:
    other = artifact_collections.find(transaction, collection.project_id, name)
    if other is not None and other.id != collection.id:
        raise RefusedError(
            f"project {collection.project!r} has a collection {name!r} already, "
            f"so {collection.name!r} can't be called so: choose another name, or delete that one first"
        )


def delete(world: World, collection_id: int) -> Collection:
    """Delete a sequence with all of its versions, or a portfolio with its links; return what it was."""
    with world.database.read() as transaction:
        collection = _existing(transaction, collection_id)
        members = _changeable_members(transaction, collection)
    for member in () if collection.is_portfolio else members:
        versions.delete(world, member.artifact.id, with_aliases=True)
    with world.database.write() as transaction:
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
    """Return the versions in a collection, all to be changed."""
    members = artifact_members.of_collection(transaction, collection)
    for member in members:
        versions.changeable(transaction, member.artifact.id)
    return members
