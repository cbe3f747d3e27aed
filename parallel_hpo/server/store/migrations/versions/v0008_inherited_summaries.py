"""What a run that was forked or rewound knew where it began, and whether it was over before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns; runs from before began with nothing."""
    op.add_column("runs", sa.Column("inherited", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("again", sa.Boolean(), nullable=True))
