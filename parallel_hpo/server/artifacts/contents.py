"""Artifacts' contents: valid names, manifests, and the stored files with their garbage collection.

A file is stored once under its content's MD5, for all artifacts. The manifest of an incremental version
holds only new files; it is completed at the commit.

A client asks which files it must send, and commits its artifact later, perhaps after days. So a file without
an artifact stays while there is an uncommitted artifact older than the file's last upload or request. That
request and the collection both write to the database, so one waits for the other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from parallel_hpo.server.context import AppContext
from parallel_hpo.server.files.storage import BLOBS, MANIFESTS, FileRef, check_path
from parallel_hpo.server.store import holdings
from parallel_hpo.server.store.artifacts import Artifact, Entry
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.values import RefusedError, read_object

LATEST: Final = "latest"
"""The alias of the newest version in each collection."""
_LENGTH: Final = 128  # wandb client's limit
_TAG: Final = re.compile(r"[-\w]+( +[-\w]+)*")  # wandb client: TAG_REGEX
_REGION: Final = "default"
"""wandb client's name for the region of a server that names none."""
_REGISTRY: Final = "wandb-registry-"  # wandb client: projects that stand for registries begin so


def check_name(name: str) -> str:
    """Return a collection's, type's or alias's name if the client can use it; else RefusedError.

    The client finds a version by entity/project/collection:alias, and makes folders of these names.
    """
    fits = 0 < len(name) <= _LENGTH and name not in (".", "..")
    if not fits or any(c < " " or c in "/:\x7f" for c in name):
        raise RefusedError(
            f"artifact name, type or alias {name[:100]!r}: 1 to {_LENGTH} characters, without '/' and ':'"
        )
    return name


def check_tag(name: str) -> str:
    """Return a tag if it is valid in the client, else RefusedError."""
    if len(name) > _LENGTH or not _TAG.fullmatch(name):
        raise RefusedError(
            f"tag {name[:100]!r}: 1 to {_LENGTH} letters, digits, hyphens and underscores, and spaces within"
        )
    return name


def check_region(region: str | None) -> None:
    """Raise RefusedError for a storage region that this server doesn't have."""
    if region not in (None, "", _REGION):
        raise RefusedError(
            f"there is no storage region {region[:100]!r} on this server, which stores all files itself: "
            "leave out storage_region, or log to W&B"
        )


def check_no_registry(project: str) -> None:
    """Raise RefusedError for a project that represents a registry."""
    if project.startswith(_REGISTRY):
        raise RefusedError(
            f"{project!r} is a registry, and there are none on this server: link to a portfolio, "
            'a name in a project, as run.link_artifact(artifact, "best-models")'
        )


_BIGGEST: Final = 2**53


def blob_of(digest: str) -> FileRef:
    """Return the stored file with this MD5 (in Base64); RefusedError if it is no MD5."""
    try:
        md5 = base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        md5 = b""
    if len(md5) != 16:
        raise RefusedError(f"the digest {digest[:40]!r} is not an MD5")
    return FileRef(BLOBS, md5.hex())


def manifest_of(artifact_id: int) -> FileRef:
    """Return an artifact's stored manifest."""
    return FileRef(MANIFESTS, f"{artifact_id}.json")


def entries_of(app: AppContext, artifact_id: int) -> list[Entry]:
    """Return the files of an uploaded manifest; RefusedError if it is missing or invalid."""
    text = _manifest(app, artifact_id)
    check_region(_region(_object(text)))
    return read_manifest(text)


def _region(manifest: dict[str, Any]) -> str | None:
    """Return a manifest's storage region."""
    storage = manifest.get("storagePolicyConfig")
    region = storage.get("storageRegion") if isinstance(storage, dict) else None
    return None if region is None else str(region)


def check_all_uploaded(app: AppContext, entries: list[Entry]) -> None:
    """Raise RefusedError if a file was not uploaded."""
    for entry in entries:
        if entry.ref is None and not blob_of(entry.digest).path_in(app.files).exists():
            raise RefusedError(f"the artifact's file {entry.path!r} was not sent, so it can't be committed")


def complete_manifest(app: AppContext, artifact: Artifact, base: Artifact) -> list[Entry]:
    """Merge an incremental version's manifest into that of the version before; return all files.

    It may be repeated, after a crash between this and the commit.
    """
    whole = merge_manifests(_manifest(app, base.id), _manifest(app, artifact.id))
    path = manifest_of(artifact.id).path_in(app.files)
    _write(path, whole)
    return read_manifest(whole)


def _manifest(app: AppContext, artifact_id: int) -> str:
    try:
        return manifest_of(artifact_id).path_in(app.files).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        raise RefusedError("the artifact's manifest was not sent, so it can't be committed") from None


def _write(path: Path, text: str) -> None:
    """Write a file atomically and durably."""
    beside = path.with_suffix(".whole")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_manifest(text: str) -> list[Entry]:
    """Return the files in a manifest; RefusedError says what is wrong with it."""
    return [_entry(path, raw) for path, raw in _contents(_object(text)).items()]


def merge_manifests(base: str, text: str) -> str:
    """Return a manifest with the files of `base` added; `text` wins for a file in both."""
    manifest = _object(text)
    return json.dumps(manifest | {"contents": _contents(_object(base)) | _contents(manifest)})


def digest_of(entries: Iterable[Entry]) -> str:
    """Return the digest of a version with these files, as wandb's client computes it."""
    lines = (f"{entry.path}:{entry.digest}\n" for entry in sorted(entries, key=lambda entry: entry.path))
    text = "".join(("wandb-artifact-manifest-v1\n", *lines))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _object(text: str) -> dict[str, Any]:
    return read_object(text, "the artifact's manifest")


def _contents(manifest: dict[str, Any]) -> dict[str, Any]:
    contents = manifest.get("contents")
    if not isinstance(contents, dict):
        raise RefusedError("the artifact's manifest has no contents")
    return contents


def _entry(path: str, raw: Any) -> Entry:
    if not isinstance(raw, dict):
        raise RefusedError(f"the artifact's manifest: {path[:100]!r} is not an object")
    digest, size, ref = raw.get("digest"), raw.get("size") or 0, raw.get("ref")
    whole = isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= _BIGGEST
    if not whole or not isinstance(digest, str) or not isinstance(ref, str | None):
        raise RefusedError(f"the artifact's manifest: {path[:100]!r} has no digest, or a wrong size or ref")
    return Entry(check_path(path), digest, size, ref)


_CLOCKS_S: Final = 3600
"""Maximum difference between the clocks of a database's servers, in seconds."""
_AT_ONCE: Final = 200
"""Number of files removed per transaction, so that other writes get their turn."""


@dataclass(frozen=True, slots=True)
class CleanupStats:
    """Number and bytes of deleted files."""

    files: int = 0
    size: int = 0

    def __add__(self, other: CleanupStats) -> CleanupStats:
        return CleanupStats(self.files + other.files, self.size + other.size)


def protect(_writing: Transaction, app: AppContext, file_ref: FileRef) -> bool:
    """Return whether a file exists; if so, protect it for an artifact that will have it."""
    now = app.clock()
    try:
        os.utime(file_ref.path_in(app.files), (now, now))
    except FileNotFoundError:
        return False
    return True


def delete_unused(app: AppContext, names: Sequence[str]) -> CleanupStats:
    """Delete those of the files that no artifact has and no uncommitted one may get."""
    batches = (names[begin : begin + _AT_ONCE] for begin in range(0, len(names), _AT_ONCE))
    return sum((_delete_batch(app, batch) for batch in batches), CleanupStats())


def _delete_batch(app: AppContext, names: Sequence[str]) -> CleanupStats:
    taken = CleanupStats()
    with app.database.write() as transaction:
        begun = holdings.first_unfinished(transaction)
        for digest in holdings.unused(transaction, [_digest(name) for name in names]):
            path = FileRef(BLOBS, base64.b64decode(digest).hex()).path_in(app.files)
            if path.exists() and (begun is None or path.stat().st_mtime < begun - _CLOCKS_S):
                taken += CleanupStats(1, path.stat().st_size)
                path.unlink()
    return taken


def unused(app: AppContext, names: Sequence[str]) -> list[str]:
    """Return those of the files that no artifact has."""
    known = {_digest(name): name for name in names}
    with app.database.read() as transaction:
        return [known[digest] for digest in holdings.unused(transaction, list(known))]


def _digest(name: str) -> str:
    """Return an MD5 in Base64, as in manifests."""
    return base64.b64encode(bytes.fromhex(name)).decode()
