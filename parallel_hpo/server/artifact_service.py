"""Clients' requests on artifacts: a version is created, its files and manifest are sent, it is committed.

    create ─▶ addresses of files ─▶ address of the manifest ─▶ commit: a version with its aliases

Files are kept once under the MD5 of their content, whatever artifacts hold them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.server import blobs
from parallel_hpo.server.addresses import BLOBS, MANIFESTS, Place
from parallel_hpo.server.manifests import read_manifest
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store import artifacts, projects, runs
from parallel_hpo.server.store.artifacts import COMMITTED, PENDING, Artifact, Collection, Entry
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.world import World

LATEST: Final = "latest"
_NAME_LENGTH: Final = 128  # wandb client: no longer ones


@dataclass(frozen=True, slots=True)
class ArtifactWishes:
    """What a client tells of a new artifact; `run`: the name of the run that logs it."""

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


def create(world: World, wishes: ArtifactWishes) -> Artifact:
    """Make a version that is to be committed, or return the newest one where it has the same content."""
    for name in (wishes.collection, wishes.type, *wishes.aliases):
        _check_name(name)
    now = world.clock()
    with world.database.write() as transaction:
        project = projects.ensure(transaction, wishes.entity, wishes.project, now)
        kind = artifacts.ensure_collection(transaction, project, wishes.collection, wishes.type, now)
        if kind.type != wishes.type:
            raise RefusedError(
                f"artifact {wishes.collection!r} has the type {kind.type!r}, "
                f"so it can't be logged as {wishes.type!r}"
            )
        newest = artifacts.latest(transaction, kind.id)
        if newest is not None and newest.digest == wishes.digest:
            artifacts.set_aliases(transaction, newest, wishes.aliases)
            return newest
        run = _run(transaction, RunPath(wishes.entity, wishes.project, wishes.run)) if wishes.run else None
        artifact_id = artifacts.create(transaction, _columns(wishes, kind, run, now))
        return existing(transaction, artifact_id)


def _columns(wishes: ArtifactWishes, kind: Collection, run: Run | None, now: float) -> dict[str, Any]:
    names = ("digest", "client_id", "description", "metadata", "history_step", "ttl_s")
    return {name: getattr(wishes, name) for name in names} | {
        "collection_id": kind.id,
        "run_id": None if run is None else run.id,
        "tags": json.dumps(list(wishes.tags)),
        "wanted_aliases": json.dumps([*wishes.aliases, LATEST]),
        "created_at": now,
        "updated_at": now,
    }


def place_of(digest: str) -> Place:
    """Return where the file with this MD5 (in Base64) is kept; RefusedError where it is no MD5."""
    try:
        md5 = base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        md5 = b""
    if len(md5) != 16:
        raise RefusedError(f"the digest {digest[:40]!r} is no MD5")
    return Place(BLOBS, md5.hex())


def manifest_of(artifact_id: int) -> Place:
    """Return where an artifact's manifest is kept."""
    return Place(MANIFESTS, f"{artifact_id}.json")


def commit(world: World, artifact_id: int) -> Artifact:
    """Make an artifact the next version of its collection; RefusedError where a file of it never came."""
    with world.database.read() as transaction:
        entries = _entries(world, changeable(transaction, artifact_id))
    now = world.clock()
    with world.database.write() as transaction:
        artifact = existing(transaction, artifact_id)
        if artifact.state == PENDING:
            _see_that_all_came(world, entries)  # in here nobody takes them back
            version = artifacts.next_version(transaction, artifact.collection.id)
            size = sum(entry.size for entry in entries)
            changes = {"state": COMMITTED, "version": version, "size": size, "file_count": len(entries)}
            artifacts.change(transaction, artifact_id, changes | {"updated_at": now})
            artifacts.put_files(transaction, artifact_id, entries)
            artifacts.set_aliases(transaction, artifact, json.loads(artifact.wanted_aliases))
            artifacts.change_collection(transaction, artifact.collection.id, {"updated_at": now})
        return existing(transaction, artifact_id)


def _entries(world: World, artifact: Artifact) -> list[Entry]:
    """Read what the manifest that was sent lists."""
    if artifact.state != PENDING:
        return []
    try:
        text = manifest_of(artifact.id).within(world.files).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        raise RefusedError("the artifact's manifest was not sent, so it can't be committed") from None
    return read_manifest(text)


def _see_that_all_came(world: World, entries: list[Entry]) -> None:
    for entry in entries:
        if entry.ref is None and not place_of(entry.digest).within(world.files).exists():
            raise RefusedError(f"the artifact's file {entry.path!r} was not sent, so it can't be committed")


def update(world: World, artifact_id: int, changes: dict[str, Any], tags: frozenset[str] | None) -> Artifact:
    """Change what is told of an artifact; `tags`: all of its tags from now on."""
    if tags is not None:
        changes = changes | {"tags": json.dumps(sorted(tags))}
    with world.database.write() as transaction:
        changeable(transaction, artifact_id)
        artifacts.change(transaction, artifact_id, changes | {"updated_at": world.clock()})
        return existing(transaction, artifact_id)


def add_aliases(world: World, artifact_id: int, names: Iterable[str]) -> None:
    """Let these aliases mean this version."""
    wanted = [_check_name(name) for name in names]
    with world.database.write() as transaction:
        artifacts.set_aliases(transaction, changeable(transaction, artifact_id), wanted)


def delete_aliases(world: World, artifact_id: int, names: Iterable[str]) -> None:
    """Let those of the aliases that mean this version mean nothing."""
    with world.database.write() as transaction:
        artifact = changeable(transaction, artifact_id)
        own = set(artifacts.aliases(transaction, artifact_id)) & set(names)
        artifacts.drop_aliases(transaction, artifact.collection.id, own)


def delete(world: World, artifact_id: int, *, with_aliases: bool) -> Artifact:
    """Delete an artifact, and those of its files that no other one has; as W&B not while it has aliases."""
    with world.database.write() as transaction:
        artifact = changeable(transaction, artifact_id)
        named = set(artifacts.aliases(transaction, artifact_id)) - {LATEST}
        if named and not with_aliases:
            raise RefusedError(
                f"the artifact has the aliases {', '.join(sorted(named))}: delete them first, "
                "or call delete(delete_aliases=True)"
            )
        digests = [entry.digest for entry in artifacts.files(transaction, artifact_id) if entry.ref is None]
        artifacts.remove(transaction, artifact_id)
        newest = artifacts.latest(transaction, artifact.collection.id)
        if newest is not None:
            artifacts.set_aliases(transaction, newest, [LATEST])
    blobs.take_back(world, [place_of(digest).name for digest in digests])
    manifest_of(artifact_id).within(world.files).unlink(missing_ok=True)
    return artifact


def delete_collection(world: World, collection_id: int) -> Collection | None:
    """Delete a collection with all of its versions, and return what it was; None: there is none."""
    with world.database.read() as transaction:
        collection = artifacts.collection_with(transaction, collection_id)
        listed = _own_versions(transaction, collection_id)
    for artifact in listed:
        delete(world, artifact.id, with_aliases=True)
    with world.database.write() as transaction:
        artifacts.remove_collection(transaction, collection_id)
    return collection


def change_collection(world: World, collection_id: int, changes: dict[str, Any]) -> Collection | None:
    """Change what is told of a collection, and return it; None: there is none."""
    with world.database.write() as transaction:
        if changes:
            _own_versions(transaction, collection_id)
            changed = changes | {"updated_at": world.clock()}
            artifacts.change_collection(transaction, collection_id, changed)
        return artifacts.collection_with(transaction, collection_id)


def _own_versions(transaction: Transaction, collection_id: int) -> list[Artifact]:
    """Return a collection's versions, all to be changed."""
    return [changeable(transaction, each.id) for each in artifacts.versions(transaction, collection_id)]


def use(world: World, artifact_id: int, path: RunPath) -> Artifact:
    """Note that a run uses an artifact."""
    with world.database.write() as transaction:
        artifact = existing(transaction, artifact_id)
        artifacts.use(transaction, _run(transaction, path).id, artifact_id)
    return artifact


def existing(transaction: Transaction, artifact_id: int) -> Artifact:
    """Return the artifact with this key; RefusedError where there is none."""
    artifact = artifacts.find(transaction, artifact_id)
    if artifact is None:
        raise RefusedError("this artifact doesn't exist, or was deleted")
    return artifact


def expecting_files(transaction: Transaction, artifact_id: int, now: float) -> Artifact:
    """Return the artifact with this key, whose client is at work on it; RefusedError where there is none."""
    artifact = existing(transaction, artifact_id)
    if artifact.state == PENDING:
        artifacts.change(transaction, artifact_id, {"updated_at": now})
    return artifact


def changeable(transaction: Transaction, artifact_id: int) -> Artifact:
    """Return the artifact with this key, to be changed; RefusedError where another sweep's run logged it."""
    artifact = existing(transaction, artifact_id)
    if artifact.run_id is not None and runs.find(transaction, artifact.run_id) is None:
        raise RefusedError(
            "a run of another sweep logged this artifact: a run may read it, and not change it"
        )
    return artifact


def _run(transaction: Transaction, path: RunPath) -> Run:
    run = runs.at(transaction, path)
    if run is None:
        raise RefusedError(f"run {path.entity}/{path.project}/{path.name} doesn't exist")
    return run


def _check_name(name: str) -> str:
    if not name or len(name) > _NAME_LENGTH or any(c < " " or c in "/:\x7f" for c in name):
        raise RefusedError(
            f"artifact name, type or alias {name[:100]!r}: 1 to {_NAME_LENGTH} characters, without / and :"
        )
    return name
