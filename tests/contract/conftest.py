from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_clean_env
from tests.contract.serving import Server, serving
from tests.postgresql import PostgreSQL


@pytest.fixture(scope="session")
def database(request: pytest.FixtureRequest) -> str | None:
    """Database of the servers: a PostgreSQL URL with --on-postgresql, None for SQLite."""
    if not request.config.getoption("--on-postgresql"):
        return None
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    return postgresql.fresh()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: str | None) -> Iterator[Server]:
    """One server for all tests of a file."""
    folder: Path = tmp_path_factory.mktemp("server")
    with serving(folder, make_clean_env(folder / "home"), database) as server:
        yield server
