"""Runs' uploaded files, and the folder that holds the bytes of all files."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from parallel_hpo.server.store import tables
from parallel_hpo.server.store.tables import files_folder, run_files


@dataclass(frozen=True, slots=True)
class File:
    """A run's file; `md5` is hexadecimal, `updated_at` in seconds since the epoch."""

    run_id: int
    name: str
    size: int
    md5: str
    updated_at: float


def put(connection: Connection, file: File) -> None:
    """Insert or replace a file."""
    remove(connection, file.run_id, [file.name])
    values = {column.name: getattr(file, column.name) for column in run_files.c}
    connection.execute(insert(run_files).values(values))


def of_run(
    connection: Connection, run_id: int, names: Collection[str] = (), pattern: str | None = None
) -> list[File]:
    """Return a run's files by name: all, those in `names`, or those LIKE the pattern (`%`: any text)."""
    query = select(run_files).where(run_files.c.run_id == run_id).order_by(run_files.c.name)
    if names:
        query = query.where(run_files.c.name.in_(names))
    elif pattern:
        query = query.where(run_files.c.name.like(pattern))
    return [File(*row) for row in connection.execute(query)]


def count(connection: Connection, run_id: int) -> int:
    """Count a run's files."""
    return tables.count(connection, run_files, run_files.c.run_id == run_id)


def remove(connection: Connection, run_id: int, names: Collection[str]) -> None:
    """Delete the records of a run's files."""
    connection.execute(delete(run_files).where(run_files.c.run_id == run_id, run_files.c.name.in_(names)))


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder: the id in its id file, and its path and the database's, as on `host`."""

    id: str
    path: str
    host: str
    database: str


def known_folder(connection: Connection) -> Folder | None:
    """Return the database's folder, or None if no server has set one."""
    row = connection.execute(select(files_folder)).first()
    return None if row is None else Folder(*row)


def set_folder(connection: Connection, folder: Folder) -> None:
    """Insert or replace the database's folder."""
    connection.execute(delete(files_folder))
    values = {column.name: getattr(folder, column.name) for column in files_folder.c}
    connection.execute(insert(files_folder).values(values))
