"""Ids that clients hold are never reused; indexes for pages of runs."""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0005"
down_revision = "0004"

_WITH_IDS_THAT_CLIENTS_HOLD: Final = ("projects", "artifact_collections", "artifacts", "runs")

_JSON_ENTRIES: Final = """
CREATE FUNCTION hpo_json_entries(document text, names text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE parsed json;
BEGIN
    parsed := document::json;
    RETURN (
        SELECT '[' || string_agg(coalesce('[' || (parsed -> name)::text || ']', '0'), ',' ORDER BY at) || ']'
        FROM json_array_elements_text(names::json) WITH ORDINALITY AS wanted (name, at)
    );
EXCEPTION WHEN others THEN
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    """Copy tables on SQLite, which reused the ids of deleted rows; add indexes for lists."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_JSON_ENTRIES)
    else:
        for table in _WITH_IDS_THAT_CLIENTS_HOLD:
            _make_again(table)
    op.create_index("runs_project_created", "runs", ["project_id", "created_at"], unique=False)
    op.create_index("runs_sweep_created", "runs", ["sweep_id", "created_at"], unique=False)


def _make_again(table: str) -> None:
    """Copy a table into one with AUTOINCREMENT; references to it are by name, and stay."""
    with op.batch_alter_table(table, recreate="always", table_kwargs={"sqlite_autoincrement": True}):
        pass
