"""A database of an earlier version, with a row in every table, whose sweep goes on after the migration."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import URL, Engine, MetaData, create_engine, insert, select, text
from sqlalchemy.exc import IntegrityError

from parallel_hpo.server.services.runs import RunUpsert, upsert
from parallel_hpo.server.store.database import database_url
from parallel_hpo.server.store.migrations import upgrade
from parallel_hpo.server.store.tables import HEAD
from tests.postgresql import PostgreSQL
from tests.server.acting import Services
from tests.server.conftest import DATABASES

REVISION: Final = "0004"
WRITTEN: Final = (Path(__file__).parent / f"server-{REVISION}.sql").read_text()
"""What that server had written: a run that is over, one that is on, a point whose run was deleted."""
SWEEP, AGENT, ON = "id000000", "id000001", "id000003"

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=DATABASES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """The database as that version left it, open and closed again at the end."""
    url = _written(tmp_path / "server.db")
    if request.param == "postgresql":
        postgresql: PostgreSQL = request.getfixturevalue("postgresql")
        url = database_url(postgresql.fresh(like=request.getfixturevalue("in_postgresql")))
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def in_postgresql(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a PostgreSQL database with the same in it, for others to be copies of."""
    url = postgresql.fresh()
    engine = create_engine(_written(tmp_path_factory.mktemp("written") / "server.db"))
    _copy(engine, create_engine(database_url(url))).dispose()
    return url


def _written(path: Path) -> URL:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(WRITTEN)
    return database_url(str(path))


def _copy(engine: Engine, into: Engine) -> Engine:
    with into.begin() as connection:
        upgrade(connection, target=REVISION)
    tables = MetaData()
    tables.reflect(into)
    with into.begin() as connection:
        for table in tables.sorted_tables:
            if table.name != "alembic_version":
                connection.execute(insert(table), _rows(engine)[table.name])
                if "id" in table.c and table.c.id.autoincrement is True:
                    counter = f"pg_get_serial_sequence('{table.name}', 'id')"
                    connection.execute(text(f"SELECT setval({counter}, max(id)) FROM {table.name}"))
    engine.dispose()
    return into


def _rows(engine: Engine) -> Rows:
    """Return all rows of all tables, columns by name."""
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        return {
            name: [dict(row._mapping) for row in connection.execute(select(table))]
            for name, table in tables.tables.items()
        }


def opened(old: Engine, tmp_path: Path) -> Services:
    """Open it as this version's server does."""
    return Services(tmp_path, where=old.url.render_as_string(hide_password=False))


def test_every_row_of_an_old_database_is_there_after_its_migration(old: Engine, tmp_path: Path) -> None:
    before = _rows(old)
    assert all(before.values()), "a table without a row shows nothing"
    with closing(opened(old, tmp_path)):
        after = _rows(old)
    assert after.pop("alembic_version") == [{"version_num": HEAD}]
    del before["alembic_version"]
    for table, rows in before.items():
        kept = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert sorted(kept, key=str) == sorted(rows, key=str), table


def test_a_sweep_goes_on_over_a_migration(old: Engine, tmp_path: Path) -> None:
    with closing(opened(old, tmp_path)) as services:
        assert services.beat(AGENT, ON) is None
        services.finish(SWEEP, ON)
        points = services.points(AGENT, SWEEP)
        assert points == [2, 3]  # the deleted run's, and the one that was not issued yet
        assert services.progress(SWEEP).runs["finished"] == 4


def test_what_refers_to_a_row_is_still_checked_after_a_migration(old: Engine, tmp_path: Path) -> None:
    with closing(opened(old, tmp_path)) as services:
        for table in ("projects", "runs", "artifact_collections", "artifacts"):
            with pytest.raises(IntegrityError), services.world.database.write() as transaction:
                transaction.execute(text(f"DELETE FROM {table}"))


def test_an_id_of_a_deleted_run_is_never_given_again(old: Engine, tmp_path: Path) -> None:
    with closing(opened(old, tmp_path)) as services:
        upsert(services.world, RunUpsert(name="last", project="p"))
        id_of_last = services.run("last").id
        services.delete("last")
        upsert(services.world, RunUpsert(name="next", project="p"))
        assert services.run("next").id > id_of_last
