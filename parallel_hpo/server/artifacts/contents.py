"""What a version consists of: the manifest that was sent, and the files that it lists.

Files are kept once under the MD5 of their content, whatever artifacts hold them. The manifest of an
incremental version is sent with what the version before it hasn't, and is kept as a whole one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from parallel_hpo.server.artifacts.names import check_region
from parallel_hpo.server.files.addresses import BLOBS, MANIFESTS, Place, plain
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store.artifact_records import Artifact
from parallel_hpo.server.store.artifacts import Entry
from parallel_hpo.server.values import read_object
from parallel_hpo.server.world import World

_BIGGEST: Final = 2**53


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


def entries_of(world: World, artifact_id: int) -> list[Entry]:
    """Read what the manifest that was sent lists; RefusedError where none was."""
    text = _manifest(world, artifact_id)
    check_region(_region(_object(text)))
    return read_manifest(text)


def _region(manifest: dict[str, Any]) -> str | None:
    """Return the storage region that a manifest names."""
    storage = manifest.get("storagePolicyConfig")
    region = storage.get("storageRegion") if isinstance(storage, dict) else None
    return None if region is None else str(region)


def expect_all(world: World, entries: list[Entry]) -> None:
    """See that each file is there; else RefusedError."""
    for entry in entries:
        if entry.ref is None and not place_of(entry.digest).within(world.files).exists():
            raise RefusedError(f"the artifact's file {entry.path!r} was not sent, so it can't be committed")


def make_whole(world: World, artifact: Artifact, base: Artifact) -> list[Entry]:
    """Add to an incremental version's manifest what the version before it has; return what it lists then.

    It may be done again, after a death between this and the commit.
    """
    whole = merge_manifests(_manifest(world, base.id), _manifest(world, artifact.id))
    path = manifest_of(artifact.id).within(world.files)
    _write(path, whole)
    return read_manifest(whole)


def _manifest(world: World, artifact_id: int) -> str:
    try:
        return manifest_of(artifact_id).within(world.files).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        raise RefusedError("the artifact's manifest was not sent, so it can't be committed") from None


def _write(path: Path, text: str) -> None:
    """Write a file that is whole on the disk before it has its name."""
    beside = path.with_suffix(".whole")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_manifest(text: str) -> list[Entry]:
    """Return the files that a manifest lists; RefusedError says what is wrong with it."""
    return [_entry(path, raw) for path, raw in _contents(_object(text)).items()]


def merge_manifests(base: str, text: str) -> str:
    """Return a manifest with what `base` lists too; of a file that both list, what `text` says counts."""
    manifest = _object(text)
    return json.dumps(manifest | {"contents": _contents(_object(base)) | _contents(manifest)})


def digest_of(entries: Iterable[Entry]) -> str:
    """Return the digest of a version with these files, as wandb's client reckons it."""
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
        raise RefusedError(f"the artifact's manifest: {path[:100]!r} is no object")
    digest, size, ref = raw.get("digest"), raw.get("size") or 0, raw.get("ref")
    whole = isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= _BIGGEST
    if not whole or not isinstance(digest, str) or not isinstance(ref, str | None):
        raise RefusedError(f"the artifact's manifest: {path[:100]!r} has no digest, or a wrong size or ref")
    return Entry(plain(path), digest, size, ref)
