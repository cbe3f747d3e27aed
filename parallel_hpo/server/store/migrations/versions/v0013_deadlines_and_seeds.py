"""Deadlines and run durations of pools, and seeds of their runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the columns; null in earlier pools."""
    op.add_column("pools", sa.Column("deadline", sa.Text(), nullable=True))
    op.add_column("pools", sa.Column("took", sa.Text(), nullable=True))
    op.add_column("pool_runs", sa.Column("seed", sa.Integer(), nullable=True))
