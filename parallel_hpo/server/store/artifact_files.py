"""What committed artifacts' manifests list: files by path, and what is kept under their digests."""

from __future__ import annotations

from collections.abc import Collection as Several
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from parallel_hpo.server.store.tables import artifact_files


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a manifest; `ref` is the address of one that is kept elsewhere."""

    path: str
    digest: str
    size: int
    ref: str | None


def put(connection: Connection, artifact_id: int, entries: list[Entry]) -> None:
    """Write what a committed artifact's manifest lists."""
    rows = [
        {"artifact_id": artifact_id, "path": e.path, "digest": e.digest, "size": e.size, "ref": e.ref}
        for e in entries
    ]
    if rows:
        connection.execute(insert(artifact_files), rows)


def of_artifact(connection: Connection, artifact_id: int, names: Several[str] = ()) -> list[Entry]:
    """Return an artifact's files by path: all, or those called `names`."""
    query = select(artifact_files).where(artifact_files.c.artifact_id == artifact_id)
    if names:
        query = query.where(artifact_files.c.path.in_(names))
    rows = connection.execute(query.order_by(artifact_files.c.path))
    return [Entry(row.path, row.digest, row.size, row.ref) for row in rows]
