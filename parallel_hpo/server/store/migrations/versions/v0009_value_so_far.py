"""A run's metric so far: the last value, or the statistic of `define_metric(summary=…)`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; active runs continue from their summary."""
    op.add_column("runs", sa.Column("metric_value", sa.Float(precision=53), nullable=True))
