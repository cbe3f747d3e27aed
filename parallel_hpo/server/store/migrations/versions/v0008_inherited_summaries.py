"""The inherited summary of a forked or rewound run, and whether a run was restarted after its end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns; earlier runs have inherited nothing."""
    op.add_column("runs", sa.Column("inherited", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("again", sa.Boolean(), nullable=True))
