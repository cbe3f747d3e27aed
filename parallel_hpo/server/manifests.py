"""Reads an artifact's manifest, the list of its files. Pure."""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.server.addresses import plain
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store.artifacts import Entry
from parallel_hpo.server.values import read_object

_BIGGEST: Final = 2**53


def read_manifest(text: str) -> list[Entry]:
    """Return the files that a manifest lists; RefusedError says what is wrong with it."""
    contents = read_object(text, "the artifact's manifest").get("contents")
    if not isinstance(contents, dict):
        raise RefusedError("the artifact's manifest has no contents")
    return [_entry(path, raw) for path, raw in contents.items()]


def _entry(path: str, raw: Any) -> Entry:
    if not isinstance(raw, dict):
        raise RefusedError(f"the artifact's manifest: {path[:100]!r} is no object")
    digest, size, ref = raw.get("digest"), raw.get("size") or 0, raw.get("ref")
    whole = isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= _BIGGEST
    if not whole or not isinstance(digest, str) or not isinstance(ref, str | None):
        raise RefusedError(f"the artifact's manifest: {path[:100]!r} has no digest, or a wrong size or ref")
    return Entry(plain(path), digest, size, ref)
