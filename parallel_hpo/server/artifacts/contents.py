"""What a version consists of: the manifest that was sent, and the files that it lists.

Files are kept once under the MD5 of their content, whatever artifacts hold them. The manifest of an
incremental version is sent with what the version before it hasn't, and is kept as a whole one.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from parallel_hpo.server.artifacts.manifests import merge_manifests, read_manifest
from parallel_hpo.server.files.addresses import BLOBS, MANIFESTS, Place
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store.artifact_records import Artifact
from parallel_hpo.server.store.artifacts import Entry
from parallel_hpo.server.world import World


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
    return read_manifest(_manifest(world, artifact_id))


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
