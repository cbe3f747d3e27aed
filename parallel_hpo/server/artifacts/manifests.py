"""Reads and merges artifacts' manifests, the lists of their files. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from parallel_hpo.server.files.addresses import plain
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store.artifacts import Entry
from parallel_hpo.server.values import read_object

_BIGGEST: Final = 2**53


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
