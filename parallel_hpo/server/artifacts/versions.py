"""Clients' requests on artifacts' versions.

create ─▶ URLs for files ─▶ URL for the manifest ─▶ commit: a version with its aliases
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from parallel_hpo.server.artifacts import contents
from parallel_hpo.server.artifacts.contents import LATEST, check_name, check_no_registry, check_tag, digest_of
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.store import artifact_collections, artifact_members, artifacts, projects, runs
from parallel_hpo.server.store.artifact_members import Member
from parallel_hpo.server.store.artifacts import COMMITTED, PENDING, Artifact, Collection, Entry
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError


@dataclass(frozen=True, slots=True)
class ArtifactFields:
    """A client's request for a new artifact; `run` is the name of the run that logs it."""

    entity: str
    project: str
    collection: str
    type: str
    digest: str
    run: str | None = None
    client_id: str | None = None
    description: str | None = None
    metadata: str | None = None
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    history_step: int | None = None
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class AliasChange:
    """An alias to set or delete in a collection; None: the version's own collection."""

    alias: str
    entity: str | None = None
    project: str | None = None
    collection: str | None = None


@dataclass(frozen=True, slots=True)
class ArtifactChanges:
    """Changes to an artifact: columns, tags to add, tags to remove."""

    columns: dict[str, Any]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def create(app: AppContext, request: ArtifactFields) -> Artifact:
    """Create an uncommitted version, or return the one with the same content."""
    for name in (request.collection, request.type, *request.aliases):
        check_name(name)
    for tag in request.tags:
        check_tag(tag)
    check_no_registry(request.project)
    now = app.clock()
    with app.database.write() as transaction:
        kind = _sequence(transaction, request, now)
        run = (
            _run(transaction, RunPath(request.entity, request.project, request.run)) if request.run else None
        )
        known = _known(transaction, kind, request)
        if known is None:
            known_id = artifacts.create(transaction, _columns(request, kind, run, now))
        else:
            known_id = known.id
            _log_again(transaction, known, run, request)
        return existing(transaction, known_id)


def _sequence(transaction: Transaction, request: ArtifactFields, now: float) -> Collection:
    project = projects.ensure(transaction, request.entity, request.project, now)
    kind = artifact_collections.ensure(transaction, project, request.collection, request.type, now)
    if kind.is_portfolio:
        raise RefusedError(
            f"{request.collection!r} is a portfolio, which has links: log the artifact under another name, "
            "and link it"
        )
    if kind.type != request.type:
        raise RefusedError(
            f"artifact {request.collection!r} has the type {kind.type!r}, "
            f"so it can't be logged as {request.type!r}"
        )
    return kind


def _known(transaction: Transaction, kind: Collection, request: ArtifactFields) -> Artifact | None:
    """Return the version with this content if it is the newest; without a client id, also an older one.

    wandb client: a request without a client id means an existing version, and no files follow.
    """
    found = artifacts.with_digest(transaction, kind.id, request.digest)
    if found is None or request.client_id is None:
        return found
    newest = artifacts.latest(transaction, kind.id)
    return found if newest is not None and newest.id == found.id else None


def _log_again(transaction: Transaction, known: Artifact, run: Run | None, request: ArtifactFields) -> None:
    artifact_collections.put_aliases(transaction, known.collection.id, known.id, request.aliases)
    if request.tags:
        tags = json.dumps(sorted({*json.loads(known.tags), *request.tags}))
        artifacts.change(transaction, known.id, {"tags": tags})
    if run is not None:
        artifacts.log_again(transaction, run.id, known.id)


def _columns(request: ArtifactFields, kind: Collection, run: Run | None, now: float) -> dict[str, Any]:
    names = ("digest", "client_id", "description", "metadata", "history_step", "ttl_s")
    return {name: getattr(request, name) for name in names} | {
        "collection_id": kind.id,
        "run_id": None if run is None else run.id,
        "tags": json.dumps(sorted(set(request.tags))),
        "wanted_aliases": json.dumps([*request.aliases, LATEST]),
        "created_at": now,
        "updated_at": now,
    }


def expect_increment(app: AppContext, artifact_id: int) -> None:
    """Mark an artifact as incremental: its manifest extends the version before it."""
    with app.database.write() as transaction:
        if changeable(transaction, artifact_id).state == PENDING:
            artifacts.change(transaction, artifact_id, {"incremental": True})


def commit(app: AppContext, artifact_id: int) -> Artifact:
    """Make an artifact the next version of its collection; RefusedError if a file is missing."""
    with app.database.read() as transaction:
        is_pending = changeable(transaction, artifact_id).state == PENDING
    entries = contents.entries_of(app, artifact_id) if is_pending else []
    with app.database.write() as transaction:
        artifact = existing(transaction, artifact_id)
        if artifact.state == PENDING:
            contents.check_all_uploaded(
                app, entries
            )  # within the transaction, so that none is collected as garbage
            _commit(transaction, app, artifact, entries)
        return existing(transaction, artifact_id)


def _commit(transaction: Transaction, app: AppContext, artifact: Artifact, entries: list[Entry]) -> None:
    now, collection_id = app.clock(), artifact.collection.id
    changes: dict[str, Any] = {"state": COMMITTED, "updated_at": now}
    # The newest one at the commit, so that no concurrent increment is lost.
    base = artifacts.latest(transaction, collection_id) if artifact.incremental else None
    if base is not None:
        entries = contents.complete_manifest(app, artifact, base)
        changes["digest"] = digest_of(entries)
    size = sum(entry.size for entry in entries)
    changes |= {"version": artifacts.next_version(transaction, collection_id), "size": size}
    artifacts.change(transaction, artifact.id, changes | {"file_count": len(entries)})
    artifacts.put_files(transaction, artifact.id, entries)
    artifact_collections.put_aliases(
        transaction, collection_id, artifact.id, json.loads(artifact.wanted_aliases)
    )
    artifact_collections.change(transaction, collection_id, {"updated_at": now})


def update(app: AppContext, artifact_id: int, changes: ArtifactChanges) -> Artifact:
    """Change an artifact's columns and tags."""
    added = {check_tag(tag) for tag in changes.added}
    with app.database.write() as transaction:
        artifact = changeable(transaction, artifact_id)
        tags = ({*json.loads(artifact.tags)} | added) - set(changes.removed)
        common = {"tags": json.dumps(sorted(tags)), "updated_at": app.clock()}
        artifacts.change(transaction, artifact_id, changes.columns | common)
        return existing(transaction, artifact_id)


def add_aliases(app: AppContext, artifact_id: int, changes: Iterable[AliasChange]) -> None:
    """Set aliases to this version; RefusedError for a collection that it isn't in."""
    with app.database.write() as transaction:
        artifact = changeable(transaction, artifact_id)
        for change in changes:
            collection = _collection_of(transaction, artifact, change)
            artifact_collections.put_aliases(
                transaction, collection.id, artifact_id, [check_name(change.alias)]
            )


def delete_aliases(app: AppContext, artifact_id: int, changes: Iterable[AliasChange]) -> None:
    """Delete those of the aliases that belong to this version."""
    with app.database.write() as transaction:
        artifact = changeable(transaction, artifact_id)
        for change in changes:
            collection = _collection_of(transaction, artifact, change)
            if artifact_collections.aliases_in(transaction, collection.id).get(change.alias) == artifact_id:
                artifact_collections.drop_aliases(transaction, collection.id, [change.alias])


def _collection_of(transaction: Transaction, artifact: Artifact, change: AliasChange) -> Collection:
    """Return the collection that a change for an alias names, of those in which the artifact stands."""
    own = artifact.collection
    path = (change.entity or own.entity, change.project or own.project, change.collection or own.name)
    standing = [member.collection for member in artifact_members.of_artifact(transaction, artifact)]
    for collection in standing:
        if (collection.entity, collection.project, collection.name) == path:
            return collection
    raise RefusedError(f"the artifact is not in the collection {'/'.join(path)}: link it there first")


def delete(app: AppContext, artifact_id: int, *, with_aliases: bool) -> Artifact:
    """Delete an artifact with its unshared files; RefusedError, as in W&B, if it has aliases."""
    with app.database.write() as transaction:
        artifact = changeable(transaction, artifact_id)
        named = set(artifact_collections.aliases_of_artifact(transaction, artifact_id)) - {LATEST}
        if named and not with_aliases:
            raise RefusedError(
                f"the artifact has the aliases {', '.join(sorted(named))}: delete them first, "
                "or call delete(delete_aliases=True)"
            )
        entries = artifacts.files_of(transaction, artifact_id)
        _, *links = artifact_members.of_artifact(transaction, artifact)
        for link in links:
            unlink(transaction, link)
        artifacts.remove(transaction, artifact_id)
        update_latest(transaction, artifact.collection)
    digests = [entry.digest for entry in entries if entry.ref is None]
    contents.delete_unused(app, [contents.blob_of(digest).name for digest in digests])
    contents.manifest_of(artifact_id).path_in(app.files).unlink(missing_ok=True)
    return artifact


def unlink(transaction: Transaction, member: Member) -> None:
    """Delete a version's link to a portfolio; the newest remaining one becomes the latest."""
    artifact_members.unlink(transaction, member)
    update_latest(transaction, member.collection)


def update_latest(transaction: Transaction, collection: Collection) -> None:
    """Set a collection's alias `latest` to its newest version, after one was removed."""
    for newest in artifact_members.of_collection(transaction, collection)[:1]:
        artifact_collections.put_aliases(transaction, collection.id, newest.artifact.id, [LATEST])


def use(app: AppContext, artifact_id: int, path: RunPath) -> Artifact:
    """Record that a run uses an artifact."""
    with app.database.write() as transaction:
        artifact = existing(transaction, artifact_id)
        artifacts.use(transaction, _run(transaction, path).id, artifact_id)
    return artifact


def existing(transaction: Transaction, artifact_id: int) -> Artifact:
    """Return the artifact with this id; RefusedError if there is none."""
    artifact = artifacts.find(transaction, artifact_id)
    if artifact is None:
        raise RefusedError("this artifact doesn't exist, or was deleted")
    return artifact


def touch(transaction: Transaction, artifact_id: int, now: float) -> Artifact:
    """Return the artifact with this id, and update its last contact; RefusedError if there is none."""
    artifact = existing(transaction, artifact_id)
    if artifact.state == PENDING:
        artifacts.change(transaction, artifact_id, {"updated_at": now})
    return artifact


def changeable(transaction: Transaction, artifact_id: int) -> Artifact:
    """Return the artifact with this id; RefusedError if the caller may not change it."""
    artifact = existing(transaction, artifact_id)
    if artifact.run_id is not None and runs.find(transaction, artifact.run_id) is None:
        raise RefusedError("a run of another sweep logged this artifact: runs may read it, but not change it")
    return artifact


def _run(transaction: Transaction, path: RunPath) -> Run:
    run = runs.at(transaction, path)
    if run is None:
        raise RefusedError(f"run {path.entity}/{path.project}/{path.name} doesn't exist")
    return run
