from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql import PostgreSQL
from tests.server.acting import Stage

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(params=DATABASES)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """The server's logic on an empty database, of each kind that is installed."""
    database = None
    if request.param == "postgresql":
        postgresql: PostgreSQL = request.getfixturevalue("postgresql")
        database = postgresql.emptied()
    stage = Stage(tmp_path, database=database)
    yield stage
    stage.close()
