"""Pools of machines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add their tables."""
    _pools()
    _nodes()
    _runs_and_events()


def _pools() -> None:
    op.create_table(
        "pools",
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("is_local", sa.Boolean(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=True),
        sa.Column("node_timeout_s", sa.Float(precision=53), nullable=False),
        sa.Column("headed", sa.Boolean(), nullable=False),
        sa.Column("max_consecutive", sa.Integer(), nullable=True),
        sa.Column("max_total", sa.Integer(), nullable=True),
        sa.Column("max_initial", sa.Integer(), nullable=True),
        sa.Column("sweep_timeout_s", sa.Float(precision=53), nullable=True),
        sa.Column("opened_at", sa.Float(precision=53), nullable=False),
        sa.Column("head_heard_at", sa.Float(precision=53), nullable=False),
        sa.Column("started", sa.Integer(), nullable=False),
        sa.Column("open_runs", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("failed_in_a_row", sa.Integer(), nullable=False),
        sa.Column("none_finished", sa.Boolean(), nullable=False),
        sa.Column("epochs", sa.Integer(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("exhausted", sa.Text(), nullable=False),
        sa.Column("ends", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sweep_id"),
    )
    op.create_table(
        "pool_facts",
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("versions", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_id"),
    )


def _nodes() -> None:
    op.create_table(
        "pool_nodes",
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("heard_at", sa.Float(precision=53), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("granted", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_id", "epoch"),
    )
    op.create_index("pool_nodes_gone", "pool_nodes", ["sweep_id", "gone"], unique=False)


def _runs_and_events() -> None:
    op.create_table(
        "pool_runs",
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=128), nullable=False),
        sa.Column("place", sa.String(length=16), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.Column("since", sa.Float(precision=53), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("spent_s", sa.Float(precision=53), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("preemptions", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("sweep_id", "run_id"),
    )
    op.create_index("pool_runs_place", "pool_runs", ["sweep_id", "place", "epoch"], unique=False)
    op.create_table(
        "pool_events",
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_id", "number"),
    )
