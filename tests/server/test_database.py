from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from parallel_hpo.errors import BackendError
from parallel_hpo.server.migrations import upgrade
from parallel_hpo.server.store.database import Database, database_url
from parallel_hpo.server.tables import HEAD


def schema_of(path: Path) -> dict[str, list[str]]:
    """What a database is made of, without regard to how its statements were laid out."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: sorted(_clauses(sql)) for name, sql in rows}


def _clauses(statement: str) -> list[str]:
    begin, _, rest = " ".join(statement.split()).partition("(")
    inner, _, end = rest.rpartition(")")
    return [begin, end, *(clause.strip() for clause in inner.split(","))]


def test_all_migrations_together_make_what_a_new_database_is(tmp_path: Path) -> None:
    Database.open(str(tmp_path / "new.db")).close()
    engine = create_engine(database_url(str(tmp_path / "migrated.db")))
    with engine.begin() as connection:
        upgrade(connection, "nothing")
    engine.dispose()
    assert schema_of(tmp_path / "migrated.db") == schema_of(tmp_path / "new.db")


def test_a_database_that_was_written_before_opens_again(tmp_path: Path) -> None:
    for _ in range(2):
        Database.open(str(tmp_path / "server.db")).close()
    connection = sqlite3.connect(tmp_path / "server.db")
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    connection.close()


def test_a_database_of_a_newer_version_is_refused_in_words(tmp_path: Path) -> None:
    Database.open(str(tmp_path / "server.db")).close()
    connection = sqlite3.connect(tmp_path / "server.db")
    connection.execute("UPDATE alembic_version SET version_num = 'future'")
    connection.commit()
    connection.close()
    with pytest.raises(BackendError, match="at revision future, which this version doesn't know"):
        Database.open(str(tmp_path / "server.db"))


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "server.db").write_text("no database at all, but long enough to be seen as none")
    with pytest.raises(BackendError, match=r"can't open its database .*server\.db"):
        Database.open(str(tmp_path / "server.db"))
