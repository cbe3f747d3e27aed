"""The folder of a database's files, the same for servers on several machines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table; the first server that starts sets its folder."""
    op.create_table(
        "files_folder",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("database", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
