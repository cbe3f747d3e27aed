"""The folder of files that belongs to this database, as the server knew it that started on it last."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from parallel_hpo.server.store.tables import files_folder


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder: the id that is written into it, and how a server on `host` calls it and the database."""

    id: str
    path: str
    host: str
    database: str


def known(connection: Connection) -> Folder | None:
    """Return the folder, or None where no server has noted one."""
    row = connection.execute(select(files_folder)).first()
    return None if row is None else Folder(*row)


def note(connection: Connection, folder: Folder) -> None:
    """Note the folder in the place of the one that was known."""
    connection.execute(delete(files_folder))
    values = {column.name: getattr(folder, column.name) for column in files_folder.c}
    connection.execute(insert(files_folder).values(values))
