"""Alembic's environment: each command runs on the connection in its configuration."""

from __future__ import annotations

from alembic import context

from parallel_hpo.server.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
