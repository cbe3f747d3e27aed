from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import postgresql
from tests.server.acting import Stage

DATABASES = ["sqlite", *(["postgresql"] if postgresql.programs() else [])]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL that runs while tests need it."""
    programs = postgresql.programs()
    assert programs is not None
    with postgresql.running(programs) as url:
        yield url


@pytest.fixture(params=DATABASES)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """The server's logic on a fresh database, of each kind that is installed."""
    database = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        database = postgresql.fresh_database(url, f"test{next(_numbers)}")
    stage = Stage(tmp_path, database=database)
    yield stage
    stage.close()
