"""Portfolios and their links, incremental versions, and runs that log an existing artifact."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add columns and tables; earlier collections are sequences, and earlier versions complete."""
    op.add_column("artifact_collections", sa.Column("next_link", sa.Integer(), nullable=True))
    op.add_column("artifacts", sa.Column("incremental", sa.Boolean(), nullable=True))
    op.create_table(
        "artifact_outputs",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("artifact_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"]),
        sa.PrimaryKeyConstraint("run_id", "artifact_id"),
    )
    op.create_index("artifact_outputs_artifact", "artifact_outputs", ["artifact_id"], unique=False)
    op.create_table(
        "artifact_links",
        sa.Column("collection_id", sa.Integer(), nullable=False),
        sa.Column("artifact_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["artifact_collections.id"]),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"]),
        sa.PrimaryKeyConstraint("collection_id", "artifact_id"),
    )
    op.create_index("artifact_links_artifact", "artifact_links", ["artifact_id"], unique=False)
