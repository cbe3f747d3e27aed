"""Sweeps: their configuration, state and counters, open points, losses at bands, and agents.

A point is open when its run was deleted, or ended before it started: it will be issued again.
A band's losses are what the early-stop rule compares runs by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy import delete as sql_delete

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.store.records import Agent, Sweep
from parallel_hpo.server.store.tables import (
    agents,
    band_losses,
    count,
    may_see,
    only_sweep,
    open_points,
    projects,
    record,
    runs,
    sweeps,
)


def _sweeps() -> Select[Any]:
    join = sweeps.join(projects, sweeps.c.project_id == projects.c.id)
    return select(sweeps, projects.c.entity, projects.c.name.label("project")).select_from(join)


# Statements of every heartbeat are built once: building one costs more than SQLite takes to run it.
_FIND = _sweeps().where(sweeps.c.id == bindparam("sweep"))


def find(connection: Connection, sweep_id: str) -> Sweep | None:
    """Return the sweep, or None."""
    row = connection.execute(_FIND, {"sweep": sweep_id}).first() if may_see(connection, sweep_id) else None
    return None if row is None else record(Sweep, row)


def of_project(connection: Connection, project_id: int | None, begin: int, number: int) -> list[Sweep]:
    """Return `number` of a project's sweeps, or (None) of all, from offset `begin`, newest first."""
    query = _sweeps().where(_here(connection, project_id)).order_by(sweeps.c.created_at.desc(), sweeps.c.id)
    return [record(Sweep, row) for row in connection.execute(query.offset(begin).limit(number))]


def ids_in_project(connection: Connection, project_id: int) -> list[str]:
    """Return the ids of all sweeps of a project."""
    return list(connection.scalars(select(sweeps.c.id).where(_here(connection, project_id))))


def count_in_project(connection: Connection, project_id: int) -> int:
    """Count a project's sweeps."""
    return count(connection, sweeps, _here(connection, project_id))


def _here(connection: Connection, project_id: int | None) -> ColumnElement[bool]:
    own = only_sweep(connection)
    here = true() if project_id is None else sweeps.c.project_id == project_id
    return here & (true() if own is None else sweeps.c.id == own)


def create(connection: Connection, values: dict[str, Any]) -> None:
    """Insert a sweep; `values` must have all columns without a default."""
    connection.execute(insert(sweeps).values(values))


def change(connection: Connection, sweep_id: str, changes: dict[str, Any]) -> None:
    """Set columns of a sweep."""
    connection.execute(update(sweeps).where(sweeps.c.id == sweep_id).values(changes))


def delete(connection: Connection, sweep_id: str) -> None:
    """Delete a sweep without runs, with its agents and open points."""
    for table in (agents, open_points):
        connection.execute(sql_delete(table).where(table.c.sweep_id == sweep_id))
    connection.execute(sql_delete(sweeps).where(sweeps.c.id == sweep_id))


def next_revision(connection: Connection, sweep_id: str) -> int:
    """Increment the revision by which search engines see changes, and return it."""
    query = (
        update(sweeps)
        .where(sweeps.c.id == sweep_id)
        .values(revision=sweeps.c.revision + 1)
        .returning(sweeps.c.revision)
    )
    revision: int = connection.execute(query).scalar_one()
    return revision


def counts(connection: Connection, sweep_id: str) -> dict[str, int]:
    """Count a sweep's runs by state."""
    query = select(runs.c.state, func.count()).where(runs.c.sweep_id == sweep_id).group_by(runs.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def best_value(connection: Connection, sweep_id: str, *, maximize: bool) -> float | None:
    """Return the best value of a sweep's finished runs, or None."""
    best = func.max(runs.c.value) if maximize else func.min(runs.c.value)
    finished = runs.c.state == str(RunState.FINISHED)
    value: float | None = connection.scalar(select(best).where(runs.c.sweep_id == sweep_id, finished))
    return value


@dataclass(frozen=True, slots=True)
class StateTotals:
    """A sweep's runs in one state; times in seconds since the epoch."""

    sweep: str
    state: str
    number: int
    begun_at: float | None
    heard_at: float
    spent_s: float | None
    """Time from the start to the last sign of life, of all of them together."""


def totals(connection: Connection, sweep_ids: Sequence[str]) -> list[StateTotals]:
    """Return the totals of sweeps by state."""
    spent = func.sum(runs.c.heard_at - runs.c.started_at)
    ends = (func.min(runs.c.started_at), func.max(runs.c.heard_at), spent)
    query = (
        select(runs.c.sweep_id, runs.c.state, func.count(), *ends)
        .where(runs.c.sweep_id.in_(sweep_ids))
        .group_by(runs.c.sweep_id, runs.c.state)
    )
    return [StateTotals(*row) for row in connection.execute(query)]


def improvements(connection: Connection, sweep_id: str, *, maximize: bool) -> list[tuple[int, float]]:
    """Return each value that was the best so far, with its place among the finished runs that have one."""
    order = (runs.c.heard_at, runs.c.id)
    choose = func.max if maximize else func.min
    before = choose(runs.c.value).over(order_by=order, rows=(None, -1)).label("before")
    columns = (runs.c.value, func.row_number().over(order_by=order).label("place"), before)
    has_value = (runs.c.state == str(RunState.FINISHED)) & runs.c.value.is_not(None)
    inner = select(*columns).where(runs.c.sweep_id == sweep_id, has_value).subquery()
    better = inner.c.value > inner.c.before if maximize else inner.c.value < inner.c.before
    query = select(inner.c.place, inner.c.value).where(inner.c.before.is_(None) | better)
    return [(place, value) for place, value in connection.execute(query.order_by(inner.c.place))]


@dataclass(frozen=True, slots=True)
class Point:
    """An index in a sweep's search space, and its parameters as JSON."""

    index: int
    assigned: str


_FIRST = (
    select(open_points.c.sweep_index, open_points.c.assigned)
    .where(open_points.c.sweep_id == bindparam("sweep"))
    .order_by(open_points.c.sweep_index)
    .limit(1)
)


def add_open_point(connection: Connection, sweep_id: str, point: Point) -> None:
    """Insert an open point."""
    values = {"sweep_id": sweep_id, "sweep_index": point.index, "assigned": point.assigned}
    connection.execute(insert(open_points).values(values))


def take_open_point(connection: Connection, sweep_id: str) -> Point | None:
    """Delete and return a sweep's first open point, or None."""
    row = connection.execute(_FIRST, {"sweep": sweep_id}).first()
    if row is None:
        return None
    here = (open_points.c.sweep_id == sweep_id, open_points.c.sweep_index == row.sweep_index)
    connection.execute(sql_delete(open_points).where(*here))
    return Point(row.sweep_index, row.assigned)


def has_open_points(connection: Connection, sweep_id: str) -> bool:
    """Return whether a sweep has open points."""
    return bool(connection.scalar(select(exists().where(open_points.c.sweep_id == sweep_id))))


def delete_open_points(connection: Connection, sweep_id: str) -> None:
    """Delete a sweep's open points, after its space has changed."""
    connection.execute(sql_delete(open_points).where(open_points.c.sweep_id == sweep_id))


def set_band_loss(connection: Connection, sweep_id: str, band: int, run_id: int, loss: float) -> None:
    """Insert or replace a run's loss at a band."""
    here = (band_losses.c.sweep_id == sweep_id, band_losses.c.band == band, band_losses.c.run_id == run_id)
    connection.execute(sql_delete(band_losses).where(*here))
    values = {"sweep_id": sweep_id, "band": band, "run_id": run_id, "loss": loss}
    connection.execute(insert(band_losses).values(values))


def delete_band_losses(connection: Connection, run_id: int) -> None:
    """Delete a run's losses at all bands."""
    connection.execute(sql_delete(band_losses).where(band_losses.c.run_id == run_id))


def losses_at_band(connection: Connection, sweep_id: str, band: int) -> dict[int, float]:
    """Return the losses at a band, by run id."""
    query = select(band_losses.c.run_id, band_losses.c.loss).where(
        band_losses.c.sweep_id == sweep_id, band_losses.c.band == band
    )
    return {row[0]: row[1] for row in connection.execute(query)}


# See _FIND above.
_FIND_AGENT = select(agents).where(agents.c.id == bindparam("agent"))
_TOUCH = update(agents).where(agents.c.id == bindparam("agent")).values(heartbeat_at=bindparam("now"))


def add_agent(connection: Connection, agent: Agent) -> None:
    """Insert an agent."""
    values = {column.name: getattr(agent, column.name) for column in agents.c}
    connection.execute(insert(agents).values(values))


def find_agent(connection: Connection, agent_id: str) -> Agent | None:
    """Return the agent, or None."""
    row = connection.execute(_FIND_AGENT, {"agent": agent_id}).first()
    agent = None if row is None else record(Agent, row)
    return agent if agent is not None and may_see(connection, agent.sweep_id) else None


def agents_of_sweep(connection: Connection, sweep_id: str) -> list[Agent]:
    """Return a sweep's agents, oldest first."""
    query = select(agents).where(agents.c.sweep_id == sweep_id).order_by(agents.c.created_at, agents.c.id)
    return [record(Agent, row) for row in connection.execute(query)]


def touch_agent(connection: Connection, agent_id: str, now: float) -> None:
    """Set an agent's last heartbeat."""
    connection.execute(_TOUCH, {"agent": agent_id, "now": now})


def count_agent_runs(connection: Connection, agent_id: str) -> int:
    """Count an agent's runs."""
    return count(connection, runs, runs.c.agent_id == agent_id)


def mark_agents_gone(connection: Connection, sweep_id: str, label_prefix: str) -> list[str]:
    """Mark a sweep's agents as gone whose label begins with the prefix, in whole words; return their ids."""
    theirs = _labelled(sweep_id, label_prefix)
    ids = list(connection.scalars(select(agents.c.id).where(theirs)))
    connection.execute(update(agents).where(theirs).values(gone=True))
    return ids


def _labelled(sweep_id: str, prefix: str) -> ColumnElement[bool]:
    words = prefix.rstrip("_")
    begins = or_(agents.c.label == words, agents.c.label.startswith(f"{words}_", autoescape=True))
    return and_(agents.c.sweep_id == sweep_id, agents.c.label != "", begins)
