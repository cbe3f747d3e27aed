"""Signed addresses of files: each carries the right to send, or to fetch, one file for a while.

The client sends and fetches files without its key (wandb client: no Authorization
there), so the address itself must carry the right. No name leads out of its folder.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, urlencode

from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.world import World

_VALID_S: Final = 3600
"""How long an address is good. wandb client: it tries a transfer 20 times again, within 16 minutes, and
a file may have to wait for those that were asked for with it; whoever overhears an address has no longer."""
_MAX_NAME_LENGTH: Final = 1000
_MAX_PART_BYTES: Final = 255  # what file systems take


class Right(StrEnum):
    """What an address allows; the values are the first parts of its path."""

    SEND = "uploads"
    FETCH = "downloads"


BLOBS: Final = "blobs"
"""The folder of artifacts' files, each under the MD5 of its content."""
MANIFESTS: Final = "manifests"
"""The folder of artifacts' manifests, each under its artifact's key."""


_BLOBS_OF_WANDB: Final = "wandb_artifacts"
_MANIFEST_OF_WANDB: Final = "wandb_manifest.json"
"""W&B's names for them: clients tell an artifact's file and a manifest by these parts of an address."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file below the folder of files: a run's key, BLOBS or MANIFESTS, and the name in there."""

    folder: str
    name: str

    def within(self, files: Path) -> Path:
        """Return the file's path."""
        return files / self.folder / self.name

    @property
    def storage_path(self) -> str:
        """Return the path that clients read: of artifacts' files and manifests it has W&B's names."""
        if self.folder == BLOBS:
            return f"{_BLOBS_OF_WANDB}/{self.name}"
        if self.folder == MANIFESTS:
            return f"{MANIFESTS}/{self.name.removesuffix('.json')}/{_MANIFEST_OF_WANDB}"
        return f"{self.folder}/{self.name}"

    @classmethod
    def at(cls, folder: str, name: str) -> Place:
        """Return the place that a storage path means, by its first part and the rest."""
        if folder == _BLOBS_OF_WANDB:
            return cls(BLOBS, name)
        if folder == MANIFESTS:
            return cls(MANIFESTS, name.replace(f"/{_MANIFEST_OF_WANDB}", ".json"))
        return cls(folder, name)


@dataclass(frozen=True, slots=True)
class FileTicket:
    """The right to send or fetch one file."""

    right: Right
    place: Place
    expires: int
    """Seconds since the epoch."""


def address(world: World, base_url: str, right: Right, place: Place) -> str:
    """Return a signed address; RefusedError for a name that is no plain path."""
    ticket = FileTicket(right, Place(place.folder, plain(place.name)), int(world.clock()) + _VALID_S)
    query = urlencode({"expires": ticket.expires, "signature": _sign(world.master_key, ticket)})
    return f"{base_url}/{right}/{quote(place.storage_path)}?{query}"


def check(world: World, ticket: FileTicket, signature: str) -> None:
    """Refuse (403) a ticket that we did not sign or that is too old, and (400) a name that leads away."""
    genuine = hmac.compare_digest(_sign(world.master_key, ticket).encode(), signature.encode())
    if not genuine or ticket.expires < world.clock():
        raise RefusedError("this address of a file is not valid, or no longer", status=403)
    plain(ticket.place.name)


def plain(name: str) -> str:
    """Return a file's name if it is a relative path that stays below its folder; else RefusedError (400).

    As W&B's service: a backslash is a character like others, and so is whatever else a disk takes.
    """
    parts = PurePosixPath(name).parts
    harmless = bool(parts) and not name.startswith("/") and ".." not in parts
    harmless = harmless and all(len(part.encode(errors="replace")) <= _MAX_PART_BYTES for part in parts)
    if not harmless or len(name) > _MAX_NAME_LENGTH or any(c in name for c in "\0\n"):
        raise RefusedError(f"file name {name[:100]!r} is not a plain relative path", status=400)
    return name


def _sign(master_key: str, ticket: FileTicket) -> str:
    message = f"{ticket.right}\n{ticket.place.folder}\n{ticket.expires}\n{ticket.place.name}"
    return hmac.new(master_key.encode(), message.encode(errors="replace"), hashlib.sha256).hexdigest()
