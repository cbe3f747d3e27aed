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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parallel_hpo.core.errors import BackendError
from parallel_hpo.server.store import files
from parallel_hpo.server.store.database import Database, flush_path, shown
from parallel_hpo.server.store.files import Folder

_log = logging.getLogger(__name__)
MARK: Final = "files.json"
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


def wish_for(database: str, files: str | None, *, adopt: bool = False) -> FolderRequest:
    """Return the configuration of a database's files, with absolute paths."""
    return FolderRequest(
        database=shown(database) if "://" in database else str(Path(database).absolute()),
        beside=folder_of(database) / FILES,
        is_on_this_machine=is_sqlite(database),
        named=None if files is None else Path(files).absolute(),
        adopt=adopt,
    )


def settle(
    database: Database,
    wish: FolderRequest,
    *,
    host: str,
    new_id: Callable[[], str] = lambda: secrets.token_hex(8),
) -> Path:
    """Return the folder of a database's files, created with an id file if needed.

    BackendError if the files are elsewhere, or the folder can't be used.
    """
    try:
        with database.write() as transaction:
            known = files.known_folder(transaction)
            for folder in [] if known is None else wish.candidates(known):
                if known is not None and _has(folder, known):
                    return folder
            mark = _read_mark(wish.folder)
            why_not = judge(wish, known, mark)
            if why_not:
                raise BackendError(why_not)
            if known is not None:
                _log.warning("%s lacks the database's earlier files, which were in %s", wish.folder, known.path)
            mark = _make(wish, new_id, mark if known is None else None)
            files.note_folder(transaction, Folder(mark.id, str(wish.folder), host, wish.database))
    except OSError as error:
        raise BackendError(
            f"the sweep server can't store files in {wish.folder}: {error.strerror}; name another --files"
        ) from error
    return wish.folder


def located(database: Database, wish: FolderRequest) -> Path:
    """Return the folder of a database's files, without changes; BackendError if the files are elsewhere."""
    with database.read() as transaction:
        known = files.known_folder(transaction)
    for folder in [] if known is None else wish.candidates(known):
        if known is not None and _has(folder, known):
            return folder
    why_not = judge(wish, known, _read_mark(wish.folder))
    if why_not:
        raise BackendError(why_not)
    return wish.folder


def judge(wish: FolderRequest, known: Folder | None, mark: FolderId | None) -> str | None:
    """Return why a folder without the database's id can't become its folder, or None if it can."""
    if wish.adopt:
        return None
    if known is None:
        others = mark is not None and mark.database != wish.database and wish.named is not None
        return _of_others(wish, mark) if others and mark is not None else None
    beside_it = Path(known.path) == wish.beside or known.database != wish.database
    if wish.is_on_this_machine and wish.named is None and beside_it:
        return None  # the folder was emptied, or the database was moved alone
    return (
        f"the files of {wish.database} should be in {known.path} on {known.host}, and {wish.folder}"
        " is not that folder: name one folder for all servers of the database by --files"
        " (if those files are lost: --adopt-files starts with this folder)"
    )


def _of_others(wish: FolderRequest, mark: FolderId) -> str:
    return (
        f"{wish.folder} has the files of another database, {mark.database}: name another folder by --files"
        " (if that database is lost: --adopt-files takes the folder)"
    )


def _has(folder: Path, known: Folder) -> bool:
    mark = _read_mark(folder)
    return mark is not None and mark.id == known.id


def _read_mark(folder: Path) -> FolderId | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        read = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return FolderId(str(read["id"]), str(read["database"]))
    return None


def _make(wish: FolderRequest, new_id: Callable[[], str], mark: FolderId | None) -> FolderId:
    """Write a folder's id file atomically; an id of the same database is kept."""
    if mark is None or mark.database != wish.database:
        mark = FolderId(new_id(), wish.database)
    wish.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=wish.folder, prefix=f".{MARK}-", delete=False) as file:
        file.write(json.dumps({"id": mark.id, "database": mark.database}) + "\n")
    flush_path(Path(file.name))  # before the database stores the id, so that both survive a power cut
    Path(file.name).replace(wish.folder / MARK)
    flush_path(wish.folder)
    return mark
