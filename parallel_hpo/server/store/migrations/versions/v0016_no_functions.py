"""PostgreSQL without a function of ours: entries of JSON columns are read in Python."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Remove the function of revision 0005."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION hpo_json_entries")
