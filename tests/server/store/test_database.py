"""Opening the server's database: its schema, its locks, and the databases it refuses."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from parallel_hpo.core.errors import BackendError
from parallel_hpo.server.rules.runs import RunEvent, RunState
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.services.run_transitions import apply_event
from parallel_hpo.server.store import runs, tables
from parallel_hpo.server.store.database import Database, UnavailableError, as_unavailable, database_url
from parallel_hpo.server.store.migrations import config_for, upgrade
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.store.tables import HEAD
from tests.server.conftest import DATABASES
from tests.server.server_logic import Services, grid


def test_a_write_waits_for_the_previous_one(services: Services) -> None:
    """The rows that a transaction read are unchanged when it writes, across processes."""
    name = services.issued(services.agent(services.sweep(grid(1))))
    other = Services(services.folder, where=services.where)
    with ThreadPoolExecutor(1) as thread:
        with services.world.database.write() as transaction:
            run = runs.at(transaction, RunPath("local", "p", name))
            assert run is not None
            end = thread.submit(other.stream, name, Chunk(exitcode=0))
            with pytest.raises(TimeoutError):
                end.result(timeout=0.2)
            apply_event(transaction, run, RunEvent.OWNER_CRASHED)
        end.result(timeout=10)
    other.close()
    assert services.run(name).state is RunState.FINISHED


def test_a_full_disk_is_a_temporary_failure() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(text("PRAGMA max_page_count = 3"))
        with pytest.raises(UnavailableError, match="full"), as_unavailable():
            tables.metadata.create_all(connection)
    engine.dispose()


def schema_of(url: str) -> list[tuple[object, ...]]:
    """Return a database's schema, independent of the layout of its statements."""
    engine = create_engine(database_url(url))
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            rows = connection.execute(text(_POSTGRESQL_SCHEMA))
            found = [tuple(row) for row in rows]
        else:
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
            found = [(name, *sorted(_clauses(sql))) for name, sql in rows]
    engine.dispose()
    return sorted(found)


_POSTGRESQL_SCHEMA = """
    SELECT table_name, column_name, concat(data_type, character_maximum_length, is_nullable, column_default)
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION SELECT proname, 'function', pg_get_functiondef(oid)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


def _clauses(statement: str) -> list[str]:
    begin, _, rest = " ".join(statement.split()).partition("(")
    inner, _, end = rest.rpartition(")")
    return [begin.replace('"', ""), end, *(clause.strip() for clause in inner.split(","))]


def test_the_migrations_folder_may_have_a_percent_sign(tmp_path: Path) -> None:
    assert config_for(tmp_path / "50%").get_main_option("script_location") == str(tmp_path / "50%")


@pytest.mark.parametrize("kind", DATABASES)
def test_all_migrations_produce_the_schema_of_a_new_database(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    new, migrated = (str(tmp_path / f"{name}.db") for name in ("new", "migrated"))
    if kind == "postgresql":
        new, migrated = (request.getfixturevalue("postgresql").fresh() for _ in range(2))
    Database.open(new).close()
    engine = create_engine(database_url(migrated))
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()
    assert schema_of(migrated) == schema_of(new)


def test_an_existing_database_opens_again(tmp_path: Path) -> None:
    for _ in range(2):
        Database.open(str(tmp_path / "server.db")).close()
    connection = sqlite3.connect(tmp_path / "server.db")
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    connection.close()


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("9999", rf"newer parallel_hpo: its revision is 9999, .*, knows those up to {HEAD};"),
        ("cf1d5e3a", r"is another program's \(Alembic's revision is cf1d5e3a\)"),
    ],
)
def test_a_database_of_an_unknown_revision_is_refused(tmp_path: Path, revision: str, words: str) -> None:
    path = tmp_path / "server.db"
    Database.open(str(path)).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    before = path.read_bytes()
    with pytest.raises(BackendError, match=words):
        Database.open(str(path))
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "server.db").write_text("no database at all, but long enough to be seen as none")
    with pytest.raises(BackendError, match=r"can't open its database .*server\.db"):
        Database.open(str(tmp_path / "server.db"))


def test_an_unsupported_database_url_is_refused() -> None:
    with pytest.raises(BackendError, match="mysql is neither sqlite nor postgresql"):
        Database.open("mysql://user:secret@host/name")
