"""What a client sends becomes a file: whole or not at all, of a bounded size, with the content it claims."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parallel_hpo.server.files.addresses import BLOBS, Place
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.world import World

_MAX_BYTES: Final = 50 * 2**30
INCOMING: Final = ".incoming"
"""The folder of files that are being written, beside those that are whole."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is on disk now."""

    size: int
    md5: str
    """Hexadecimal."""


async def store(world: World, place: Place, body: AsyncIterator[bytes]) -> Stored:
    """Write a file; RefusedError (413) where it is too big, (400) where a blob isn't what its name says."""
    target = place.within(world.files)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RefusedError(f"a part of {place.name!r} is the name of a file", status=409) from None
    with tempfile.NamedTemporaryFile(dir=_incoming(world.files), delete=False) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # somebody is at it
        try:
            size, md5 = 0, hashlib.md5(usedforsecurity=False)
            async for piece in body:
                size += len(piece)
                if size > _MAX_BYTES:
                    raise RefusedError(f"the file is bigger than {_MAX_BYTES} bytes", status=413)
                md5.update(piece)
                file.write(piece)
            file.flush()
            # Before it has its name: a power cut must not leave an empty file in the place of a whole one.
            await asyncio.to_thread(os.fsync, file.fileno())
            file.close()
            if place.folder == BLOBS and md5.hexdigest() != place.name:
                raise RefusedError("the content is not what the artifact's manifest says", status=400)
            if place.folder == BLOBS:
                now = world.clock()  # a file server's is another one
                os.utime(file.name, (now, now))
            _put(Path(file.name), target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return Stored(size, md5.hexdigest())


def clear_unfinished(files: Path) -> None:
    """Remove what servers that were killed had begun to write; what another one is at stays."""
    for path in (files / INCOMING).glob("*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _incoming(files: Path) -> Path:
    folder = files / INCOMING
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _put(written: Path, target: Path) -> None:
    try:
        written.replace(target)
    except IsADirectoryError:
        raise RefusedError(f"{target.name!r} is the name of a folder", status=409) from None
