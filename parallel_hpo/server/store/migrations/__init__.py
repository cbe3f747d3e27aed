"""The database's history: brings an older one to the newest revision, in the caller's transaction.

`versions/` has one file per step, named by its revision. To add one: change `records` or
`tables`, and write the step; a test compares the two ways to an empty database.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from parallel_hpo.errors import BackendError


def config_for(folder: Path) -> Config:
    """Return the configuration of migrations in `folder`: to its parser, a % begins a reference."""
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def upgrade(connection: Connection, revision: str, *, target: str = "head") -> None:
    """Bring the database from `revision` to `target`; BackendError where it is from a newer version."""
    config = config_for(Path(__file__).parent)
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, target)
    except CommandError as error:
        raise BackendError(
            f"the sweep server's database is at revision {revision}, which this version doesn't know: "
            f"upgrade parallel_hpo, or name another --database ({error})"
        ) from error
