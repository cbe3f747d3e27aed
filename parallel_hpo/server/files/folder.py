"""The folder of a database's files: each has the other's id, so that all servers use the same folder.

    database: id, path, host  ◀── the same id? ──▶  FOLDER/files.json: id, database

A server with another folder doesn't start: the other servers would list its files and not find them. With
a SQLite database and the folder beside it this needs no configuration.
"""

from __future__ import annotations

import json
import logging
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parallel_hpo.core.errors import BackendError
from parallel_hpo.server.store import files
from parallel_hpo.server.store.database import Database, flush_path, shown
from parallel_hpo.server.store.files import Folder

_log = logging.getLogger(__name__)
ID_FILE: Final = "files.json"
FILES: Final = "server-files"
"""The folder's default name."""


@dataclass(frozen=True, slots=True)
class FolderId:
    """The content of a folder's id file."""

    id: str
    database: str


@dataclass(frozen=True, slots=True)
class FolderRequest:
    """A starting server's configuration of its files."""

    database: str
    """The database's path or URL, without a password."""
    beside: Path
    """The default folder."""
    is_on_this_machine: bool
    """Whether the database is SQLite, and so has no servers on other machines."""
    named: Path | None = None
    """The folder that the user named."""
    adopt: bool = False
    """Whether the user gives up files in any other folder."""

    @property
    def folder(self) -> Path:
        """The folder to use."""
        return self.named or self.beside

    def is_beside(self, folder: Path) -> bool:
        """Return whether that folder is beside a SQLite database."""
        return self.is_on_this_machine and folder == self.beside

    def candidates(self, known: Folder) -> list[Path]:
        """Return the possible folders: also the known one, unless the database is a copy."""
        if self.named is not None or known.database != self.database:
            return [self.folder]
        return [self.beside, Path(known.path)]


def folder_of(database: str | None) -> Path:
    """Return a server's default folder: beside its database if that is a path."""
    if database is None or "://" in database:
        import platformdirs

        return Path(platformdirs.user_data_dir("parallel_hpo", appauthor=False))
    return Path(database).absolute().parent


def is_sqlite(database: str) -> bool:
    """Return whether a database, given as a path or URL, is SQLite."""
    return "://" not in database or database.startswith("sqlite")


def folder_request(database: str, files: str | None, *, adopt: bool = False) -> FolderRequest:
    """Return the configuration of a database's files, with absolute paths."""
    return FolderRequest(
        database=shown(database) if "://" in database else str(Path(database).absolute()),
        beside=folder_of(database) / FILES,
        is_on_this_machine=is_sqlite(database),
        named=None if files is None else Path(files).absolute(),
        adopt=adopt,
    )


def open_folder(database: Database, request: FolderRequest, *, host: str) -> Path:
    """Return the folder of a database's files, created with an id file if needed.

    BackendError if the files are elsewhere, or the folder can't be used.
    """
    try:
        with database.write() as transaction:
            known = files.known_folder(transaction)
            for folder in [] if known is None else request.candidates(known):
                if known is not None and _has_id(folder, known):
                    return folder
            folder_id = _read_id(request.folder)
            problem = folder_problem(request, known, folder_id)
            if problem:
                raise BackendError(problem)
            if known is not None:
                _log.warning(
                    "%s lacks the database's earlier files, which were in %s", request.folder, known.path
                )
            folder_id = _write_id(request, folder_id if known is None else None)
            files.set_folder(transaction, Folder(folder_id.id, str(request.folder), host, request.database))
    except OSError as error:
        raise BackendError(
            f"the sweep server can't store files in {request.folder}: {error.strerror}; name another --files"
        ) from error
    return request.folder


def find_folder(database: Database, request: FolderRequest) -> Path:
    """Return the folder of a database's files, without changes; BackendError if the files are elsewhere."""
    with database.read() as transaction:
        known = files.known_folder(transaction)
    for folder in [] if known is None else request.candidates(known):
        if known is not None and _has_id(folder, known):
            return folder
    problem = folder_problem(request, known, _read_id(request.folder))
    if problem:
        raise BackendError(problem)
    return request.folder


def folder_problem(request: FolderRequest, known: Folder | None, folder_id: FolderId | None) -> str | None:
    """Return why a folder without the database's id can't become its folder, or None if it can."""
    if request.adopt:
        return None
    if known is None:
        if request.named is None or folder_id is None or folder_id.database == request.database:
            return None
        return (
            f"{request.folder} has the files of another database, {folder_id.database}:"
            " name another folder by --files (if that database is lost: --adopt-files takes the folder)"
        )
    beside_it = Path(known.path) == request.beside or known.database != request.database
    if request.is_on_this_machine and request.named is None and beside_it:
        return None  # the folder was emptied, or the database was moved alone
    return (
        f"the files of {request.database} should be in {known.path} on {known.host}, and {request.folder}"
        " is not that folder: name one folder for all servers of the database by --files"
        " (if those files are lost: --adopt-files starts with this folder)"
    )


def _has_id(folder: Path, known: Folder) -> bool:
    folder_id = _read_id(folder)
    return folder_id is not None and folder_id.id == known.id


def _read_id(folder: Path) -> FolderId | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        read = json.loads((folder / ID_FILE).read_text(encoding="utf-8"))
        return FolderId(str(read["id"]), str(read["database"]))
    return None


def _write_id(request: FolderRequest, folder_id: FolderId | None) -> FolderId:
    """Write a folder's id file atomically; an id of the same database is kept."""
    if folder_id is None or folder_id.database != request.database:
        folder_id = FolderId(secrets.token_hex(8), request.database)
    request.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=request.folder, prefix=f".{ID_FILE}-", delete=False) as file:
        file.write(json.dumps({"id": folder_id.id, "database": folder_id.database}) + "\n")
    flush_path(Path(file.name))  # before the database stores the id, so that both survive a power cut
    Path(file.name).replace(request.folder / ID_FILE)
    flush_path(request.folder)
    return folder_id
