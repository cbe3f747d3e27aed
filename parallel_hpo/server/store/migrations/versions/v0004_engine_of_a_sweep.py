"""The search engine of a sweep, on which all server processes of the database must agree."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; null in earlier sweeps means our own engine."""
    op.add_column("sweeps", sa.Column("engine", sa.String(length=16), nullable=True))
