"""What counts of a run's metric so far: the last value, or what `define_metric(summary=…)` makes of all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; a run that is on goes on from what its summary says."""
    op.add_column("runs", sa.Column("metric_value", sa.Float(precision=53), nullable=True))
