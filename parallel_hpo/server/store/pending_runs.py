"""Runs whose end is still to come: queries of heartbeats, releases and timeouts. None scans a sweep."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, bindparam, exists, literal_column, or_, select, update

from parallel_hpo.server.rules.heartbeat import OwnRun, WaitingRun
from parallel_hpo.server.rules.runs import OPEN, REPORTED_BY_RUN, RunState
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import find
from parallel_hpo.server.store.tables import agents, runs

_STARTED = (RunState.RUNNING, RunState.PREEMPTING)
# Statements of every heartbeat are built once: building one costs more than SQLite takes to run it.
_OWN = (
    select(
        runs.c.id,
        runs.c.name,
        runs.c.state,
        runs.c.deliveries,
        runs.c.stop_requested,
        runs.c.heard_at,
        runs.c.again,
    )
    .where(runs.c.agent_id == bindparam("agent"), runs.c.state.in_(sorted(OPEN)))
    .order_by(runs.c.id)
)
_WAITING = (
    select(runs.c.id, runs.c.state)
    .where(runs.c.sweep_id == bindparam("sweep"), runs.c.waiting)
    .order_by(runs.c.id)
    .limit(literal_column("1"))
)


# A supervisor's preempting runs are never requeued.
_HAS_REQUEUABLE = select(
    exists().where(
        runs.c.sweep_id == bindparam("sweep"),
        runs.c.state.in_((RunState.PENDING, RunState.PREEMPTING)),
        or_(
            runs.c.state == RunState.PENDING,
            exists().where(agents.c.id == runs.c.agent_id, agents.c.label == ""),
        ),
        runs.c.agent_id != bindparam("agent"),
    )
)
_TOUCH = update(runs).where(runs.c.id == bindparam("run")).values(heard_at=bindparam("now"))


def outstanding(connection: Connection, agent_id: str, listed: Collection[str] = ()) -> tuple[OwnRun, ...]:
    """Return the runs whose end this agent must still report, oldest first; `listed` are in its heartbeat.

    A run that was restarted after its end counts only if listed: a user rewound or resumed it by hand.
    """
    rows = connection.execute(_OWN, {"agent": agent_id})
    counted = (row for row in rows if not row.again or row.state == RunState.PENDING or row.name in listed)
    return tuple(OwnRun(row[0], row[1], RunState(row[2]), row[3], row[4], row[5]) for row in counted)


def assigned_to_others(
    connection: Connection, sweep_id: str, agent_id: str, names: Collection[str]
) -> tuple[str, ...]:
    """Return those of a sweep's runs `names` that now belong to another agent, or to none."""
    query = select(runs.c.name).where(
        runs.c.sweep_id == sweep_id,
        runs.c.name.in_(sorted(names)),
        runs.c.state.in_(OPEN),
        or_(runs.c.agent_id.is_(None), runs.c.agent_id != agent_id),
    )
    return tuple(connection.scalars(query))


def waiting(connection: Connection, sweep_id: str) -> WaitingRun | None:
    """Return the oldest run of a sweep that waits for any agent, or None."""
    row = connection.execute(_WAITING, {"sweep": sweep_id}).first()
    return None if row is None else WaitingRun(row[0], RunState(row[1]))


def has_requeuable(connection: Connection, sweep_id: str, agent_id: str) -> bool:
    """Return whether a sweep's run of another agent may still be requeued."""
    return bool(connection.scalar(_HAS_REQUEUABLE, {"sweep": sweep_id, "agent": agent_id}))


def unconfirmed_runs(connection: Connection, sweep_id: str) -> dict[str, RunState]:
    """Return the states, by name, of a sweep's runs that haven't reported their end themselves."""
    query = select(runs.c.name, runs.c.state).where(
        runs.c.sweep_id == sweep_id, runs.c.state.not_in(sorted(REPORTED_BY_RUN))
    )
    return {name: RunState(state) for name, state in connection.execute(query)}


def summaries_under_way(connection: Connection, sweep_id: str) -> list[tuple[str, str, str]]:
    """Return the name, the label of the opener and the summary, as JSON, of each started run under way."""
    under_way = runs.c.state.in_(sorted(OPEN)) & runs.c.opened_by.is_not(None)
    query = select(runs.c.name, runs.c.opened_by, runs.c.summary).where(
        runs.c.sweep_id == sweep_id, under_way
    )
    return [(name, label, summary) for name, label, summary in connection.execute(query)]


def touch(connection: Connection, run_ids: Iterable[int], now: float) -> None:
    """Set the last contact of runs."""
    connection.execute(_TOUCH, [{"run": run_id, "now": now} for run_id in run_ids])


def never_started(connection: Connection, agent_ids: Collection[str]) -> list[Run]:
    """Return the runs that were issued to these agents and never started."""
    query = select(runs.c.id).where(runs.c.agent_id.in_(agent_ids), runs.c.state == RunState.PENDING)
    return _load(connection, list(connection.scalars(query.order_by(runs.c.id))))


def unassigned(connection: Connection, sweep_id: str) -> list[Run]:
    """Return a sweep's runs that no agent has."""
    pending = (runs.c.sweep_id == sweep_id, runs.c.state == RunState.PENDING, runs.c.agent_id.is_(None))
    return _load(connection, list(connection.scalars(select(runs.c.id).where(*pending))))


def never_started_by_silent_agents(connection: Connection, before: float) -> list[Run]:
    """Return never-started runs of unsupervised agents whose last heartbeat was before a time."""
    join = runs.join(agents, runs.c.agent_id == agents.c.id)
    query = (
        select(runs.c.id)
        .select_from(join)
        .where(
            runs.c.state == RunState.PENDING,
            runs.c.waiting.is_(False),
            agents.c.label == "",
            agents.c.heartbeat_at < before,
        )
    )
    return _load(connection, list(connection.scalars(query)))


def silent(connection: Connection, before: float) -> list[Run]:
    """Return active runs whose last contact was before a time."""
    query = select(runs.c.id).where(runs.c.state.in_(_STARTED), runs.c.heard_at < before)
    return _load(connection, list(connection.scalars(query)))


def request_stop(connection: Connection, sweep_id: str) -> None:
    """Ask a sweep's active runs to stop."""
    query = update(runs).where(runs.c.sweep_id == sweep_id, runs.c.state.in_(_STARTED))
    connection.execute(query.values(stop_requested=True))


def _load(connection: Connection, run_ids: list[int]) -> list[Run]:
    found = (find(connection, run_id) for run_id in run_ids)
    return [run for run in found if run is not None]
