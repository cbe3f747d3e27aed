"""The worker that opened a run last, which tells attempts apart; pending runs have no stop request."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column, and clear stop requests of cancelled sweeps for never-started runs."""
    op.add_column("runs", sa.Column("opened_by", sa.String(length=64), nullable=True))
    runs = sa.table("runs", sa.column("state", sa.String), sa.column("stop_requested", sa.Boolean))
    op.execute(runs.update().where(runs.c.state == "pending").values(stop_requested=False))
