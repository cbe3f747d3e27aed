"""Files of runs and artifacts: signed URLs, atomic uploads, and deletion.

A signed URL carries the right to send or fetch one file for a while, since the client does both without its
key (wandb client: no Authorization header). No name leads out of its folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import hmac
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, urlencode

from parallel_hpo.core.keys import sign
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.store import files, runs
from parallel_hpo.server.store.files import File
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError

_VALID_S: Final = 3600
"""Validity of a signed URL, in seconds. wandb client: it retries a transfer 20 times, within 16 minutes, and
a file may have to wait for others of the same request."""
_MAX_NAME_LENGTH: Final = 1000
_MAX_PART_BYTES: Final = 255  # file systems' limit


class FilePermission(StrEnum):
    """The right of a signed URL; the values are the first parts of its path."""

    SEND = "uploads"
    FETCH = "downloads"


BLOBS: Final = "blobs"
"""The folder of artifacts' files, each named by its content's MD5."""
MANIFESTS: Final = "manifests"
"""The folder of artifacts' manifests, each named by its artifact's id."""


_BLOBS_OF_WANDB: Final = "wandb_artifacts"
_MANIFEST_OF_WANDB: Final = "wandb_manifest.json"
"""W&B's names in paths: clients recognize artifacts' files and manifests by them."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """A stored file: its folder (a run's id, BLOBS or MANIFESTS), and its name within it."""

    folder: str
    name: str

    def path_in(self, files: Path) -> Path:
        """Return the file's path."""
        return files / self.folder / self.name

    @property
    def storage_path(self) -> str:
        """The path that clients see, with W&B's names for artifacts' files and manifests."""
        if self.folder == BLOBS:
            return f"{_BLOBS_OF_WANDB}/{self.name}"
        if self.folder == MANIFESTS:
            return f"{MANIFESTS}/{self.name.removesuffix('.json')}/{_MANIFEST_OF_WANDB}"
        return f"{self.folder}/{self.name}"

    @classmethod
    def from_path(cls, folder: str, name: str) -> FileRef:
        """Return the file of a storage path, given as its first part and the rest."""
        if folder == _BLOBS_OF_WANDB:
            return cls(BLOBS, name)
        if folder == MANIFESTS:
            return cls(MANIFESTS, name.replace(f"/{_MANIFEST_OF_WANDB}", ".json"))
        return cls(folder, name)


@dataclass(frozen=True, slots=True)
class FileTicket:
    """A right to send or fetch one file."""

    permission: FilePermission
    file_ref: FileRef
    expires: int
    """Seconds since the epoch."""


def sign_url(app: AppContext, base_url: str, permission: FilePermission, file_ref: FileRef) -> str:
    """Return a signed URL; RefusedError for a name that is no plain path."""
    ticket = FileTicket(
        permission, FileRef(file_ref.folder, check_path(file_ref.name)), int(app.clock()) + _VALID_S
    )
    query = urlencode({"expires": ticket.expires, "signature": _sign(app.master_key, ticket)})
    return f"{base_url}/{permission}/{quote(file_ref.storage_path)}?{query}"


def check_ticket(app: AppContext, ticket: FileTicket, signature: str) -> None:
    """Raise RefusedError: 403 for a forged or expired ticket, 400 for a name that leaves its folder."""
    genuine = hmac.compare_digest(_sign(app.master_key, ticket).encode(), signature.encode())
    if not genuine or ticket.expires < app.clock():
        raise RefusedError("this file's address is invalid or has expired", status=403)
    check_path(ticket.file_ref.name)


def check_path(name: str) -> str:
    """Return a file's name if it is a relative path below its folder; else RefusedError (400).

    As in W&B's service, a backslash is an ordinary character, as is all else that a disk accepts.
    """
    parts = PurePosixPath(name).parts
    harmless = bool(parts) and not name.startswith("/") and ".." not in parts
    harmless = harmless and all(len(part.encode(errors="replace")) <= _MAX_PART_BYTES for part in parts)
    if not harmless or len(name) > _MAX_NAME_LENGTH or any(c in name for c in "\0\n"):
        raise RefusedError(f"file name {name[:100]!r} is not a plain relative path", status=400)
    return name


def _sign(master_key: str, ticket: FileTicket) -> str:
    message = f"{ticket.permission}\n{ticket.file_ref.folder}\n{ticket.expires}\n{ticket.file_ref.name}"
    return sign(master_key, message)


_MAX_BYTES: Final = 50 * 2**30
INCOMING: Final = ".incoming"
"""The folder of uploads in progress."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Size and MD5 of a file that was written."""

    size: int
    md5: str
    """Hexadecimal."""


async def store(app: AppContext, file_ref: FileRef, body: AsyncIterator[bytes]) -> StoredFile:
    """Write a file atomically; RefusedError: 413 too big, 400 a blob whose MD5 isn't its name."""
    target = file_ref.path_in(app.files)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RefusedError(f"a part of {file_ref.name!r} is the name of a file", status=409) from None
    with tempfile.NamedTemporaryFile(dir=_incoming(app.files), delete=False) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # marks the upload as in progress
        try:
            size, md5 = 0, hashlib.md5(usedforsecurity=False)
            async for piece in body:
                size += len(piece)
                if size > _MAX_BYTES:
                    raise RefusedError(f"the file is bigger than {_MAX_BYTES} bytes", status=413)
                md5.update(piece)
                file.write(piece)
            file.flush()
            # Before the rename: a power cut must not leave an empty file in file_ref of a whole one.
            await asyncio.to_thread(os.fsync, file.fileno())
            file.close()
            if file_ref.folder == BLOBS and md5.hexdigest() != file_ref.name:
                raise RefusedError("the content is not what the artifact's manifest says", status=400)
            if file_ref.folder == BLOBS:
                now = app.clock()  # a file server's clock may differ
                os.utime(file.name, (now, now))
            _put(Path(file.name), target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return StoredFile(size, md5.hexdigest())


def clear_unfinished(files: Path) -> None:
    """Remove unfinished uploads of killed servers; those in progress in another server stay."""
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


_log = logging.getLogger(__name__)
_MAX_FILES: Final = 50_000
"""Maximum number of files per request; so many signed URLs take 0.8 s, in which other requests wait."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file that a client may upload, and its signed URL."""

    name: str
    upload_url: str | None
    """None: refused. wandb-core then skips this file; an error would make it skip all."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The answer to CreateRunFiles. wandb-core crashes if it is null, so failures are errors instead."""

    run_id: int
    upload_headers: tuple[str, ...]
    files: tuple[RunFile, ...]


def create(app: AppContext, base_url: str, path: RunPath, names: list[str]) -> RunFiles:
    """Return signed URLs for names, None for one that is no plain path; RefusedError for an unknown run."""
    with app.database.read() as transaction:
        run = runs.at(transaction, path)
    if run is None:
        raise RefusedError(f"run {path.entity}/{path.project}/{path.name} doesn't exist")
    if len(names) > _MAX_FILES:
        _log.warning("run %s: %d files at once; those after %d are refused", run.name, len(names), _MAX_FILES)
    to_send = [_to_send(app, base_url, run, name) for name in names[:_MAX_FILES]]
    refused = [RunFile(name, None) for name in names[_MAX_FILES:]]
    return RunFiles(run.id, (), (*to_send, *refused))


def _to_send(app: AppContext, base_url: str, run: Run, name: str) -> RunFile:
    try:
        return RunFile(name, sign_url(app, base_url, FilePermission.SEND, FileRef(str(run.id), name)))
    except RefusedError as error:
        _log.warning("run %s: %s", run.name, error)
        return RunFile(name, None)


def record_upload(app: AppContext, file_ref: FileRef, stored: StoredFile) -> None:
    """Record a run's uploaded file; if the run was deleted meanwhile, delete the file."""
    run_id = int(file_ref.folder)
    with app.database.write() as transaction:
        if runs.find(transaction, run_id) is not None:
            files.put(transaction, File(run_id, file_ref.name, stored.size, stored.md5, app.clock()))
            return
    delete_folder(app, run_id)


def delete(app: AppContext, wanted: list[FileRef]) -> None:
    """Delete runs' files; missing ones are ignored."""
    known = []
    with app.database.write() as transaction:
        for file_ref in wanted:
            if runs.find(transaction, int(file_ref.folder)) is None:
                continue
            if files.of_run(transaction, int(file_ref.folder), [file_ref.name]):
                files.remove(transaction, int(file_ref.folder), [file_ref.name])
                known.append(file_ref)
    for file_ref in known:
        file_ref.path_in(app.files).unlink(missing_ok=True)


def delete_folder(app: AppContext, run_id: int) -> None:
    """Delete a run's folder from the disk."""
    shutil.rmtree(app.files / str(run_id), ignore_errors=True)
