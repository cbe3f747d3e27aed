"""The points of a grid whose run was deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "open_points",
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("sweep_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("assigned", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"]),
        sa.PrimaryKeyConstraint("sweep_id", "sweep_index"),
    )
