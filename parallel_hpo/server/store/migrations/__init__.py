"""Migrations: they upgrade an older database to the newest revision, in the caller's transaction.

`versions/` has one file per step, named by its revision. To add one, change `records` or `tables` and
write the step; a test compares both ways to an empty database.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config_for(folder: Path) -> Config:
    """Return Alembic's configuration for migrations in `folder`; its parser needs % escaped."""
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def upgrade(connection: Connection, *, target: str = "head") -> None:
    """Upgrade the database from its revision, a known one, to `target`."""
    config = config_for(Path(__file__).parent)
    config.attributes["connection"] = connection
    command.upgrade(config, target)
