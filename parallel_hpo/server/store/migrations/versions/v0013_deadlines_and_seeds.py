"""Pools have a deadline and know how long their runs took; a pool's run has a seed of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add columns; pools from before have neither."""
    op.add_column("pools", sa.Column("deadline", sa.Text(), nullable=True))
    op.add_column("pools", sa.Column("took", sa.Text(), nullable=True))
    op.add_column("pool_runs", sa.Column("seed", sa.Integer(), nullable=True))
