"""The ids of artifacts and collections: Base64, since the client takes them for that in addresses."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from parallel_hpo.server.refusals import RefusedError

ARTIFACT: Final = "Artifact"
COLLECTION: Final = "ArtifactCollection"


def make_id(kind: str, key: int) -> str:
    """Return the id of what has this key."""
    return base64.b64encode(f"{kind}:{key}".encode()).decode()


def key_of(kind: str, text: str) -> int:
    """Return the key behind an id; RefusedError for an id that is none of ours."""
    try:
        named, _, digits = base64.b64decode(text, validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        named = digits = ""
    if named != kind or not digits.isdigit() or len(digits) > 9:
        raise RefusedError(f"{kind} id {text[:40]!r} is none of this server's")
    return int(digits)
