from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.postgresql import PostgreSQL
from tests.server.application import Web
from tests.server.server_logic import Services
from tests.server.shared_database import KeptDatabase

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def kept_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptDatabase]:
    with closing(KeptDatabase(str(tmp_path_factory.mktemp("kept") / "server.db"))) as kept:
        yield kept


@pytest.fixture(scope="session")
def kept_postgresql(postgresql: PostgreSQL) -> Iterator[KeptDatabase]:
    with closing(KeptDatabase(postgresql.fresh())) as kept:
        yield kept


@pytest.fixture(params=DATABASES)
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    """The server's logic on an empty database, of each kind that is installed."""
    kept: KeptDatabase = request.getfixturevalue(f"kept_{request.param}")
    kept.empty()
    with closing(Services(tmp_path, kept=kept)) as services:
        yield services


@pytest.fixture
def web(services: Services) -> Iterator[Web]:
    """A client with the master key, and a run `r`."""
    services.upsert("r")
    with Web(services) as web:
        yield web
