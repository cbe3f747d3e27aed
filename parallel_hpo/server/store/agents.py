"""Agents: who registered for a sweep, with whose key, and when it was last heard."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, bindparam, insert, or_, select, update

from parallel_hpo.server.store.queries import count, may_see, record
from parallel_hpo.server.store.records import Agent
from parallel_hpo.server.store.tables import agents, runs

# What every heartbeat asks is built once: building a statement costs more than SQLite takes to run it.
_FIND = select(agents).where(agents.c.id == bindparam("agent"))
_TOUCH = update(agents).where(agents.c.id == bindparam("agent")).values(heartbeat_at=bindparam("now"))


def create(connection: Connection, agent: Agent) -> None:
    """Insert an agent."""
    values = {column.name: getattr(agent, column.name) for column in agents.c}
    connection.execute(insert(agents).values(values))


def find(connection: Connection, agent_id: str) -> Agent | None:
    """Return the agent, or None."""
    row = connection.execute(_FIND, {"agent": agent_id}).first()
    agent = None if row is None else record(Agent, row)
    return agent if agent is not None and may_see(connection, agent.sweep_id) else None


def of_sweep(connection: Connection, sweep_id: str) -> list[Agent]:
    """Return a sweep's agents in the order in which they came."""
    query = select(agents).where(agents.c.sweep_id == sweep_id).order_by(agents.c.created_at, agents.c.id)
    return [record(Agent, row) for row in connection.execute(query)]


def touch(connection: Connection, agent_id: str, now: float) -> None:
    """Note that the agent was heard."""
    connection.execute(_TOUCH, {"agent": agent_id, "now": now})


def run_count(connection: Connection, agent_id: str) -> int:
    """Count the runs that are this agent's."""
    return count(connection, runs, runs.c.agent_id == agent_id)


def dismiss(connection: Connection, sweep_id: str, label_prefix: str) -> list[str]:
    """Mark a sweep's agents whose label begins with the prefix, as whole words, as gone; return their ids."""
    theirs = _labelled(sweep_id, label_prefix)
    ids = list(connection.scalars(select(agents.c.id).where(theirs)))
    connection.execute(update(agents).where(theirs).values(gone=True))
    return ids


def _labelled(sweep_id: str, prefix: str) -> ColumnElement[bool]:
    words = prefix.rstrip("_")
    begins = or_(agents.c.label == words, agents.c.label.startswith(f"{words}_", autoescape=True))
    return and_(agents.c.sweep_id == sweep_id, agents.c.label != "", begins)
