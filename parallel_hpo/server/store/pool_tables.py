"""The tables of pools. They have no foreign keys, since a pool's sweep may be on W&B's server."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Index, Integer, String, Table, Text

from parallel_hpo.server.store.tables import metadata

pools = Table(
    "pools",
    metadata,
    Column("sweep_id", String(64), primary_key=True),
    Column("is_local", Boolean, nullable=False),
    Column("count", Integer),
    Column("node_timeout_s", Float(53), nullable=False),
    Column("headed", Boolean, key="has_coordinator", nullable=False),
    Column("max_consecutive", Integer),
    Column("max_total", Integer),
    Column("max_initial", Integer),
    Column("sweep_timeout_s", Float(53)),
    Column("deadline", Text),
    Column("took", Text),
    Column("opened_at", Float(53), nullable=False),
    Column("head_heard_at", Float(53), key="coordinator_seen_at", nullable=False),
    Column("started", Integer, nullable=False),
    Column("open_runs", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("failed_in_a_row", Integer, nullable=False),
    Column("none_finished", Boolean, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("events", Integer, nullable=False),
    Column("exhausted", Text, nullable=False),
    # Why the pool ends, as JSON; null: it doesn't.
    Column("ends", Text),
)

# The request that opened the pool, apart, as it may hold a whole `main` and a pool's row is written often.
pool_facts = Table(
    "pool_facts",
    metadata,
    Column("sweep_id", String(64), primary_key=True),
    # Compared with each node that joins; apart, since the facts may be large.
    Column("versions", Text, nullable=False),
    Column("facts", Text, nullable=False),
)

pool_nodes = Table(
    "pool_nodes",
    metadata,
    Column("sweep_id", String(64), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("mark", Text, nullable=False),
    Column("workers", Integer, nullable=False),
    Column("heard_at", Float(53), nullable=False),
    Column("number", Integer, nullable=False),
    Column("granted", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("gone", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("deadline_at", Float(53)),
    Index("pool_nodes_gone", "sweep_id", "gone"),
)

pool_runs = Table(
    "pool_runs",
    metadata,
    Column("sweep_id", String(64), primary_key=True),
    Column("run_id", String(128), primary_key=True),
    Column("place", String(16), nullable=False),
    Column("epoch", Integer),
    Column("attempt", Integer, nullable=False),
    Column("is_on", Boolean, nullable=False),
    Column("since", Float(53), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("spent_s", Float(53), nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("preemptions", Integer, nullable=False),
    Column("seed", Integer),
    Column("slot", Integer),
    Column("outcome", String(16)),
    Index("pool_runs_place", "sweep_id", "place", "epoch"),
)

pool_events = Table(
    "pool_events",
    metadata,
    Column("sweep_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Float(53), nullable=False),
    Column("epoch", Integer),
    Column("kind", String(16), nullable=False),
    Column("body", Text, nullable=False),
)

POOL_TABLES = (pool_events, pool_runs, pool_nodes, pool_facts, pools)
