"""Pools: the parts that a request concerns are read, and what it has changed is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Insert,
    Row,
    Update,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    union_all,
    update,
)

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import NewPool, PoolEvent, Versions, as_json, read
from parallel_hpo.core.types import Outcome, RunId
from parallel_hpo.count.policy import FailureCount, FailureLimits
from parallel_hpo.count.state import Pool, PoolDraft, PoolNode, PoolRun, RunStatus
from parallel_hpo.server.store.pool_tables import (
    POOL_TABLES,
    pool_events,
    pool_facts,
    pool_nodes,
    pool_runs,
    pools,
)

_NODE_FIELDS: Final = (
    *("epoch", "name", "mark", "workers", "heard_at", "number", "granted", "used", "gone", "reason"),
    "deadline_at",
)
# Statements of every exchange are built once: building one costs more than SQLite takes to run it.
_POOL = select(pools).where(pools.c.sweep_id == bindparam("sweep"))
_NODES = select(*(pool_nodes.c[name] for name in _NODE_FIELDS)).where(
    pool_nodes.c.sweep_id == bindparam("sweep"),
    or_(pool_nodes.c.gone.is_(False), pool_nodes.c.epoch == bindparam("epoch")),
)
_LIVING = select(pool_nodes.c.epoch).where(
    pool_nodes.c.sweep_id == bindparam("sweep"),
    pool_nodes.c.epoch == bindparam("epoch"),
    pool_nodes.c.gone.is_(False),
)
_NAMED = select(pool_runs).where(
    pool_runs.c.sweep_id == bindparam("sweep"), pool_runs.c.run_id.in_(bindparam("names", expanding=True))
)
_AT = select(pool_runs).where(pool_runs.c.sweep_id == bindparam("sweep"))
# One select per status, so that each uses the index.
_HELD = union_all(
    _AT.where(pool_runs.c.place == RunStatus.WAITING),
    _AT.where(
        pool_runs.c.place == RunStatus.ASSIGNED, pool_runs.c.epoch.in_(bindparam("holders", expanding=True))
    ),
    _AT.where(
        pool_runs.c.place == RunStatus.RUNNING, pool_runs.c.epoch.in_(bindparam("dying", expanding=True))
    ),
)
_EVENTS = (
    select(pool_events)
    .where(pool_events.c.sweep_id == bindparam("sweep"), pool_events.c.number > bindparam("after"))
    .order_by(pool_events.c.number)
    .limit(bindparam("most"))
)
_CHANGE_POOL = update(pools).where(pools.c.sweep_id == bindparam("key"))
_CHANGE_NODE = update(pool_nodes).where(
    pool_nodes.c.sweep_id == bindparam("key"), pool_nodes.c.epoch == bindparam("which")
)
_CHANGE_RUN = update(pool_runs).where(
    pool_runs.c.sweep_id == bindparam("key"), pool_runs.c.run_id == bindparam("which")
)
_NEW_NODE, _NEW_RUN, _NEW_EVENT = insert(pool_nodes), insert(pool_runs), insert(pool_events)
_NO_EPOCH: Final = 0


def find(connection: Connection, sweep_id: str) -> Pool | None:
    """Return a sweep's pool, or None."""
    row = connection.execute(_POOL, {"sweep": sweep_id}).first()
    return None if row is None else _pool(row)


def all_pools(connection: Connection) -> list[tuple[str, Pool]]:
    """Return all pools with their sweeps' ids, by the time at which they were opened last."""
    rows = connection.execute(select(pools).order_by(pools.c.opened_at, pools.c.sweep_id))
    return [(row.sweep_id, _pool(row)) for row in rows]


def outcomes(connection: Connection, sweep_id: str) -> dict[Outcome | None, int]:
    """Count a pool's runs by their outcomes; None: those that are open."""
    query = select(pool_runs.c.outcome, func.count()).where(pool_runs.c.sweep_id == sweep_id)
    rows = connection.execute(query.group_by(pool_runs.c.outcome))
    return {None if outcome is None else Outcome(outcome): number for outcome, number in rows}


def node_names(connection: Connection, sweep_id: str) -> tuple[str, ...]:
    """Return the names of all nodes that ever joined a pool, in the order of their first joining."""
    query = select(pool_nodes.c.name).where(pool_nodes.c.sweep_id == sweep_id)
    names = connection.scalars(query.group_by(pool_nodes.c.name).order_by(func.min(pool_nodes.c.epoch)))
    return tuple(names)


def nodes(connection: Connection, sweep_id: str, epoch: int | None = None) -> list[PoolNode]:
    """Return a pool's living nodes, and the one with `epoch` in any state."""
    rows = connection.execute(_NODES, {"sweep": sweep_id, "epoch": epoch or _NO_EPOCH})
    return [_node(row) for row in rows]


def is_alive(connection: Connection, sweep_id: str, epoch: int) -> bool:
    """Return whether the node with an epoch is still in the pool."""
    return connection.execute(_LIVING, {"sweep": sweep_id, "epoch": epoch}).first() is not None


def runs_concerned(
    connection: Connection,
    sweep_id: str,
    *,
    named: Collection[RunId] = (),
    holder: int | None = None,
    dying: Collection[int] = (),
) -> list[PoolRun]:
    """Return waiting runs, the `named` ones, those assigned to `holder`, and all of dying nodes."""
    holders = [*dying, holder or _NO_EPOCH]
    held = {"sweep": sweep_id, "holders": holders, "dying": [*dying, _NO_EPOCH]}
    found = {row.run_id: _run(row) for row in connection.execute(_HELD, held)}
    if named:
        rows = connection.execute(_NAMED, {"sweep": sweep_id, "names": sorted(named)})
        found |= {row.run_id: _run(row) for row in rows}
    return list(found.values())


def started_among(connection: Connection, sweep_id: str, names: Collection[str]) -> set[str]:
    """Return those of the names that are runs of the pool."""
    rows = connection.execute(_NAMED, {"sweep": sweep_id, "names": sorted(names)}) if names else ()
    return {row.run_id for row in rows}


def running(connection: Connection, sweep_id: str) -> int:
    """Count the attempts in progress."""
    condition = (pool_runs.c.sweep_id == sweep_id, pool_runs.c.place == RunStatus.RUNNING, pool_runs.c.is_on)
    query = select(func.count()).select_from(pool_runs).where(*condition)
    found: int = connection.execute(query).scalar_one()
    return found


def facts(connection: Connection, sweep_id: str) -> str | None:
    """Return the request that opened a pool, as JSON, or None."""
    query = select(pool_facts.c.facts).where(pool_facts.c.sweep_id == sweep_id)
    found: str | None = connection.scalar(query)
    return found


def versions(connection: Connection, sweep_id: str) -> Versions | None:
    """Return the software versions that a pool's nodes must have; None: no pool."""
    text = connection.scalar(select(pool_facts.c.versions).where(pool_facts.c.sweep_id == sweep_id))
    return None if text is None else read(Versions, json.loads(text))


def put_facts(connection: Connection, sweep_id: str, wanted: NewPool) -> None:
    """Insert or replace the request that opens a pool."""
    texts = {"versions": json.dumps(as_json(wanted.versions)), "facts": json.dumps(as_json(wanted))}
    connection.execute(delete(pool_facts).where(pool_facts.c.sweep_id == sweep_id))
    connection.execute(insert(pool_facts).values(sweep_id=sweep_id, **texts))


def events_after(connection: Connection, sweep_id: str, number: int, most: int) -> list[PoolEvent]:
    """Return at most `most` of a pool's events after a number, in order."""
    rows = connection.execute(_EVENTS, {"sweep": sweep_id, "after": number, "most": most})
    return [PoolEvent(row.number, row.at, row.epoch, row.kind, json.loads(row.body)) for row in rows]


def create(connection: Connection, sweep_id: str, pool: Pool) -> None:
    """Insert a pool."""
    connection.execute(insert(pools).values(sweep_id=sweep_id, **_pool_values(pool)))


def delete_pool(connection: Connection, sweep_id: str) -> None:
    """Delete a sweep's pool, if any, with all of its rows."""
    for table in POOL_TABLES:
        connection.execute(delete(table).where(table.c.sweep_id == sweep_id))


def write(connection: Connection, sweep_id: str, draft: PoolDraft) -> None:
    """Write a draft's changes and events."""
    before = draft.before
    if draft.pool is not before.pool:
        connection.execute(_CHANGE_POOL, {"key": sweep_id} | _pool_values(draft.pool))
    changes = (
        (_NEW_NODE, _CHANGE_NODE, _node_values, before.nodes, draft.nodes),
        (_NEW_RUN, _CHANGE_RUN, _run_values, before.runs, draft.runs),
    )
    for new, change, values_of, was, now in changes:
        _write_changed(connection, sweep_id, new, change, values_of, was, now)
    if draft.events:
        connection.execute(_NEW_EVENT, [_event_values(sweep_id, event) for event in draft.events])


def _write_changed(
    connection: Connection,
    sweep_id: str,
    new: Insert,
    change: Update,
    values_of: Callable[[Any], dict[str, Any]],
    was: Mapping[Any, Any],
    now: Mapping[Any, Any],
) -> None:
    for key, record in now.items():
        if key not in was:
            connection.execute(new, {"sweep_id": sweep_id} | values_of(record))
        elif record is not was[key]:
            connection.execute(change, {"key": sweep_id, "which": key} | values_of(record))


def _pool(row: Row[Any]) -> Pool:
    return Pool(
        is_local=row.is_local,
        count=row._mapping["count"],
        node_timeout_s=row.node_timeout_s,
        has_coordinator=row.has_coordinator,
        limits=FailureLimits(row.max_consecutive, row.max_total, row.max_initial),
        sweep_timeout_s=row.sweep_timeout_s,
        deadline=row.deadline,
        opened_at=row.opened_at,
        coordinator_seen_at=row.coordinator_seen_at,
        started=row.started,
        open_runs=row.open_runs,
        failures=FailureCount(row.failed, row.failed_in_a_row, row.none_finished),
        took=() if row.took is None else tuple(json.loads(row.took)),
        epochs=row.epochs,
        events=row.events,
        exhausted=row.exhausted,
        ends=None if row.ends is None else read(SweepEnd, json.loads(row.ends)),
    )


_POOL_FIELDS: Final = (
    *("is_local", "count", "node_timeout_s", "has_coordinator", "sweep_timeout_s", "deadline"),
    *("opened_at", "coordinator_seen_at", "started", "open_runs", "epochs", "events", "exhausted"),
)
"""Fields that are columns of their own."""


def _pool_values(pool: Pool) -> dict[str, Any]:
    return {name: getattr(pool, name) for name in _POOL_FIELDS} | {
        "max_consecutive": pool.limits.max_consecutive,
        "max_total": pool.limits.max_total,
        "max_initial": pool.limits.max_initial,
        "failed": pool.failures.total,
        "failed_in_a_row": pool.failures.consecutive,
        "none_finished": pool.failures.none_finished,
        "took": json.dumps(pool.took) if pool.took else None,
        "ends": None if pool.ends is None else json.dumps(as_json(pool.ends)),
    }


_RUN_FIELDS: Final = (
    *("run_id", "epoch", "attempt", "since", "spent_s", "deaths", "preemptions", "seed", "slot"),
    "outcome",
)


def _node(row: Row[Any]) -> PoolNode:
    return PoolNode(**dict(zip(_NODE_FIELDS, row, strict=True)))  # fast: each exchange reads all living nodes


def _node_values(node: PoolNode) -> dict[str, Any]:
    return {name: getattr(node, name) for name in _NODE_FIELDS}


def _run(row: Row[Any]) -> PoolRun:
    values = {name: getattr(row, name) for name in _RUN_FIELDS} | {
        "status": RunStatus(row.place),
        "outcome": None if row.outcome is None else Outcome(row.outcome),
        "on": row.is_on,
        "parameters": json.loads(row.parameters),
    }
    return PoolRun(**values)


def _run_values(run: PoolRun) -> dict[str, Any]:
    own = {"place": run.status, "is_on": run.on, "parameters": json.dumps(run.parameters)}
    return {name: getattr(run, name) for name in _RUN_FIELDS} | own


def _event_values(sweep_id: str, event: PoolEvent) -> dict[str, Any]:
    return {
        "sweep_id": sweep_id,
        "number": event.number,
        "at": event.at,
        "epoch": event.epoch,
        "kind": event.kind,
        "body": json.dumps(event.body),
    }
