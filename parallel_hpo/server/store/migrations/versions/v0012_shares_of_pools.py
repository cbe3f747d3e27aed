"""Fixed shares of a pool's count, and the share of each node and run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the table of shares, and columns to nodes and runs."""
    for table in ("pool_nodes", "pool_runs"):
        op.add_column(table, sa.Column("share", sa.String(length=32), nullable=False, server_default=""))
    op.create_table(
        "pool_shares",
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("share", sa.String(length=32), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("started", sa.Integer(), nullable=False),
        sa.Column("open_runs", sa.Integer(), nullable=False),
        sa.Column("none_finished", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_id", "share"),
    )
