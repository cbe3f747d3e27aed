"""What a run that was forked or rewound knew where it began."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; runs from before began with nothing."""
    op.add_column("runs", sa.Column("inherited", sa.Text(), nullable=True))
