"""Tags of collections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column; earlier collections have no tags."""
    op.add_column("artifact_collections", sa.Column("tags", sa.Text(), nullable=True))
