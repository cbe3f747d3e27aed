"""The ids by which clients hold runs, files, artifacts and collections, and the keys behind them.

Those of artifacts are Base64, since the client takes them for that in addresses.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from parallel_hpo.server.files.addresses import Place
from parallel_hpo.server.refusals import RefusedError

ARTIFACT: Final = "Artifact"
COLLECTION: Final = "ArtifactCollection"
_RUN: Final = "run:"
_FILE: Final = "file:"


def make_id(kind: str, key: int) -> str:
    """Return the id of the artifact or collection that has this key."""
    return base64.b64encode(f"{kind}:{key}".encode()).decode()


def key_of(kind: str, text: str) -> int:
    """Return the key behind such an id; RefusedError for an id that is none of ours."""
    try:
        named, _, digits = base64.b64decode(text, validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        named = digits = ""
    if named != kind or not digits.isdigit() or len(digits) > 9:
        raise _foreign(f"{kind} id", text)
    return int(digits)


def make_run_id(key: int) -> str:
    """Return the id of the run that has this key."""
    return f"{_RUN}{key}"


def key_of_run(text: str) -> int:
    """Return the key behind a run's id; RefusedError for an id that is none of ours."""
    digits = text.removeprefix(_RUN)
    if not text.startswith(_RUN) or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise _foreign("run id", text)
    return int(digits)


def make_file_id(run_key: int, name: str) -> str:
    """Return the id of a run's file."""
    return f"{_FILE}{run_key}:{name}"


def place_of_file(text: str) -> Place:
    """Return where the file of an id is; RefusedError for an id that is none of ours."""
    digits, colon, name = text.removeprefix(_FILE).partition(":")
    known = text.startswith(_FILE) and colon and digits.isascii() and digits.isdigit()
    if not known or len(digits) > 9:
        raise _foreign("file id", text)
    return Place(digits, name)


def _foreign(what: str, text: str) -> RefusedError:
    return RefusedError(f"{what} {text[:40]!r} is none of this server's")
