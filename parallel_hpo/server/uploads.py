"""Uploads of a run's files: signed addresses that expire, and where the bytes go.

The client sends a file without its key (wandb client: no Authorization on uploads),
so the address itself must carry the right to write this one file for a while. No
name leads out of the run's own folder.
"""

from __future__ import annotations

import hashlib
import hmac
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, urlencode

from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store import runs
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.world import World

_VALID_S: Final = 24 * 3600
"""How long an address is good: a slow upload that is tried again must still get through."""
_MAX_BYTES: Final = 50 * 2**30
_MAX_NAME_LENGTH: Final = 1000
_MAX_PART_BYTES: Final = 255  # what file systems take
_MAX_FILES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to write one file."""

    run_id: int
    name: str
    expires: int
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file that a client may upload, and the address to which it does."""

    name: str
    upload_url: str


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The answer to CreateRunFiles; wandb-core crashes where this is null, so errors come instead."""

    run_id: int
    upload_headers: tuple[str, ...]
    files: tuple[RunFile, ...]


def create(world: World, base_url: str, path: RunPath, names: list[str]) -> RunFiles:
    """Return an address for each name; RefusedError for an unknown run or a name that is no plain path."""
    if len(names) > _MAX_FILES:
        raise RefusedError(f"more than {_MAX_FILES} files at once")
    with world.database.read() as transaction:
        run = runs.at(transaction, path)
    if run is None:
        raise RefusedError(f"run {path.entity}/{path.project}/{path.name} doesn't exist")
    expires = int(world.clock()) + _VALID_S
    tickets = [Ticket(run.id, _plain(name), expires) for name in names]
    files = [RunFile(ticket.name, _address(world, base_url, ticket)) for ticket in tickets]
    return RunFiles(run.id, (), tuple(files))


def check(world: World, ticket: Ticket, signature: str) -> None:
    """Refuse (403) a ticket that we did not sign or that is too old, and (400) a name that leads away."""
    genuine = hmac.compare_digest(_sign(world.master_key, ticket).encode(), signature.encode())
    if not genuine or ticket.expires < world.clock():
        raise RefusedError("this upload address is not valid, or no longer", status=403)
    _plain(ticket.name)


async def store(world: World, ticket: Ticket, body: AsyncIterator[bytes]) -> None:
    """Write a file whole or not at all; RefusedError (413) where it is too big."""
    folder = world.files / str(ticket.run_id)
    target = folder / ticket.name
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RefusedError(f"a part of {ticket.name!r} is the name of a file", status=409) from None
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".upload-", delete=False) as file:
        try:
            size = 0
            async for piece in body:
                size += len(piece)
                if size > _MAX_BYTES:
                    raise RefusedError(f"the file is bigger than {_MAX_BYTES} bytes", status=413)
                file.write(piece)
            file.close()
            _put(Path(file.name), target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _put(written: Path, target: Path) -> None:
    try:
        written.replace(target)
    except IsADirectoryError:
        raise RefusedError(f"{target.name!r} is the name of a folder", status=409) from None


def _address(world: World, base_url: str, ticket: Ticket) -> str:
    query = urlencode({"expires": ticket.expires, "signature": _sign(world.master_key, ticket)})
    return f"{base_url}/uploads/{ticket.run_id}/{quote(ticket.name)}?{query}"


def _sign(master_key: str, ticket: Ticket) -> str:
    message = f"{ticket.run_id}\n{ticket.expires}\n{ticket.name}"
    return hmac.new(master_key.encode(), message.encode(errors="replace"), hashlib.sha256).hexdigest()


def _plain(name: str) -> str:
    """Return a file's name if it is a relative path that stays below its folder."""
    parts = PurePosixPath(name).parts
    harmless = bool(parts) and not name.startswith("/") and ".." not in parts
    harmless = harmless and all(len(part.encode(errors="replace")) <= _MAX_PART_BYTES for part in parts)
    if not harmless or len(name) > _MAX_NAME_LENGTH or any(c < " " or c in "\\\x7f" for c in name):
        raise RefusedError(f"file name {name[:100]!r} is not a plain relative path", status=400)
    return name
