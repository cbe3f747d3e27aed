"""A sweep's open points: their run was deleted, or ended before it began, so they are to be issued again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from parallel_hpo.server.store.tables import open_points


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a sweep's search space, and the parameters there as JSON."""

    index: int
    assigned: str


_FIRST = (
    select(open_points.c.sweep_index, open_points.c.assigned)
    .where(open_points.c.sweep_id == bindparam("sweep"))
    .order_by(open_points.c.sweep_index)
    .limit(1)
)


def put(connection: Connection, sweep_id: str, point: Point) -> None:
    """Note that a point is open."""
    values = {"sweep_id": sweep_id, "sweep_index": point.index, "assigned": point.assigned}
    connection.execute(insert(open_points).values(values))


def take(connection: Connection, sweep_id: str) -> Point | None:
    """Return a sweep's first open point, which is not open any more, or None."""
    row = connection.execute(_FIRST, {"sweep": sweep_id}).first()
    if row is None:
        return None
    here = (open_points.c.sweep_id == sweep_id, open_points.c.sweep_index == row.sweep_index)
    connection.execute(delete(open_points).where(*here))
    return Point(row.sweep_index, row.assigned)


def are_open(connection: Connection, sweep_id: str) -> bool:
    """Say whether a sweep has open points."""
    return bool(connection.scalar(select(exists().where(open_points.c.sweep_id == sweep_id))))


def forget(connection: Connection, sweep_id: str) -> None:
    """Forget a sweep's open points: its space was changed."""
    connection.execute(delete(open_points).where(open_points.c.sweep_id == sweep_id))
