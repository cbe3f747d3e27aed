"""Pools without shares: a share is a launch with a count of its own. Nodes have deadlines of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Remove shares: any node may take their runs. Add deadlines of nodes, null in earlier ones."""
    with op.batch_alter_table("pool_nodes") as nodes:
        nodes.drop_column("share")
        nodes.add_column(sa.Column("deadline_at", sa.Float(precision=53), nullable=True))
    with op.batch_alter_table("pool_runs") as runs:
        runs.drop_column("share")
    op.drop_table("pool_shares")
