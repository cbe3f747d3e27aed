"""Migrations of databases of earlier versions keep all rows, and their sweeps continue."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import URL, Engine, MetaData, create_engine, insert, select, text
from sqlalchemy.exc import IntegrityError

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import Granted, as_json
from parallel_hpo.server.services import pool
from parallel_hpo.server.store import runs
from parallel_hpo.server.store.database import Database, database_url
from parallel_hpo.server.store.migrations import upgrade
from parallel_hpo.server.store.tables import HEAD
from tests.postgresql import PostgreSQL
from tests.server.conftest import DATABASES
from tests.server.pool_requests import TIMEOUT_S, VERSIONS, end, machine, new_pool, start, told
from tests.server.server_logic import START, Services

REVISION: Final = "0004"
WRITTEN: Final = (Path(__file__).parent / f"server-{REVISION}.sql").read_text()
"""A database of that version with an ended run, an active run, and the point of a deleted run."""
SWEEP, AGENT, ON = "id000000", "id000001", "id000003"

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=DATABASES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine on the database as that version left it."""
    url = _written(tmp_path / "server.db")
    if request.param == "postgresql":
        postgresql: PostgreSQL = request.getfixturevalue("postgresql")
        url = database_url(postgresql.fresh(like=request.getfixturevalue("in_postgresql")))
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def in_postgresql(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a PostgreSQL database with the same rows, as a template for copies."""
    url = postgresql.fresh()
    engine = create_engine(_written(tmp_path_factory.mktemp("written") / "server.db"))
    _write(database_url(url), REVISION, _rows(engine))
    engine.dispose()
    return url


def _written(path: Path) -> URL:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(WRITTEN)
    return database_url(str(path))


def _write(url: URL, revision: str, rows: Rows) -> None:
    """Create a database of an earlier revision with these rows."""
    engine = create_engine(url)
    with engine.begin() as connection:
        upgrade(connection, target=revision)
    tables = MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            if table.name == "alembic_version" or table.name not in rows:
                continue
            for row in rows[table.name]:
                connection.execute(insert(table), row)
            if engine.dialect.name == "postgresql" and "id" in table.c and table.c.id.autoincrement is True:
                counter = f"pg_get_serial_sequence('{table.name}', 'id')"
                connection.execute(text(f"SELECT setval({counter}, max(id)) FROM {table.name}"))
    engine.dispose()


def _rows(engine: Engine) -> Rows:
    """Return all rows by table."""
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        return {
            name: [dict(row._mapping) for row in connection.execute(select(table))]
            for name, table in tables.tables.items()
        }


def opened(old: Engine, tmp_path: Path) -> closing[Services]:
    """Open the database as this version's server does."""
    return closing(Services(tmp_path, where=old.url.render_as_string(hide_password=False)))


def test_a_migration_keeps_every_row_of_an_old_database(old: Engine, tmp_path: Path) -> None:
    before = _rows(old)
    assert all(before.values()), "a table without a row shows nothing"
    with opened(old, tmp_path):
        after = _rows(old)
    assert after.pop("alembic_version") == [{"version_num": HEAD}]
    del before["alembic_version"]
    for table, rows in before.items():
        kept = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert sorted(kept, key=str) == sorted(rows, key=str), table


def test_a_sweep_continues_after_a_migration(old: Engine, tmp_path: Path) -> None:
    with opened(old, tmp_path) as services:
        assert services.beat(AGENT, ON) is None
        services.finish(SWEEP, ON)
        assert services.points(AGENT, SWEEP) == [2, 3]  # the deleted run's point, and the one not issued yet
        assert services.progress(SWEEP).runs["finished"] == 4


def test_foreign_keys_are_enforced_and_ids_not_reused_after_a_migration(old: Engine, tmp_path: Path) -> None:
    with opened(old, tmp_path) as services:
        for table in ("projects", "runs", "artifact_collections", "artifacts"):
            with pytest.raises(IntegrityError), services.world.database.write() as transaction:
                transaction.execute(text(f"DELETE FROM {table}"))
        id_of_last = services.upsert("last").id
        services.delete("last")
        assert services.upsert("next").id > id_of_last


def test_a_migration_clears_the_stop_request_of_runs_that_never_started(tmp_path: Path) -> None:
    path = str(tmp_path / "server.db")
    run: dict[str, Any] = dict.fromkeys(("tags", "config", "summary", "system_metrics", "history_keys"), "")
    counts = dict.fromkeys(
        ("waiting", "history_lines", "event_lines", "log_lines", "created_at", "heard_at"), 0
    )
    once = {"project_id": 1, "deliveries": 1, "sweep_revision": 1, "stop_requested": 1}
    states = {"r1": "pending", "r2": "running"}
    rows = [{"name": name, "state": state} | run | counts | once for name, state in states.items()]
    project = {"id": 1, "entity": "local", "name": "p", "created_at": 0}
    _write(database_url(path), "0004", {"projects": [project], "runs": rows})
    with closing(Database.open(path)) as database, database.read() as transaction:
        found = [runs.in_project(transaction, 1, name) for name in states]
    assert [run and (run.stop_requested, run.opened_by) for run in found] == [(False, None), (True, None)]


POOL: Final[dict[str, Any]] = {
    "is_local": False,
    "count": 6,
    "node_timeout_s": TIMEOUT_S,
    "headed": False,
    "max_initial": 5,
    "opened_at": START,
    "head_heard_at": START,
    "started": 4,
    "open_runs": 3,
    "failed": 0,
    "failed_in_a_row": 0,
    "none_finished": False,
    "epochs": 2,
    "events": 3,
    "exhausted": "",
}
NODE: Final[dict[str, Any]] = {"workers": 2, "heard_at": START, "granted": 2, "used": 2, "reason": ""}
NEW: Final[dict[str, Any]] = {"spent_s": 0.0, "deaths": 0, "preemptions": 0, "attempt": 1, "is_on": False}
RUN: Final = NEW | {"since": START, "parameters": '{"x": 1}'}
FACTS: Final = {
    "versions": json.dumps(as_json(VERSIONS)),
    "facts": json.dumps(as_json(new_pool("s", count=6))),
}
POOLED: Final[Rows] = {
    "pools": [POOL],
    "pool_facts": [FACTS],
    "pool_nodes": [
        NODE | {"epoch": 1, "name": "a", "mark": "ma", "number": 5, "gone": False, "share": "1/2"},
        NODE | {"epoch": 2, "name": "b", "mark": "mb", "number": 6, "gone": True, "share": "2/2"},
    ],
    "pool_runs": [
        RUN | {"run_id": "r1", "place": "ended", "outcome": "finished", "share": "1/2"},
        RUN | {"run_id": "r2", "place": "running", "epoch": 1, "is_on": True, "slot": 0, "share": "1/2"},
        RUN | {"run_id": "r3", "place": "waiting", "attempt": 2, "share": "2/2"},
        RUN | {"run_id": "r4", "place": "waiting", "attempt": 2, "share": "2/2"},
    ],
    "pool_shares": [
        {"share": "1/2", "count": 3, "started": 2, "open_runs": 1, "none_finished": False},
        {"share": "2/2", "count": 3, "started": 2, "open_runs": 2, "none_finished": True},
    ],
    "pool_events": [
        {"number": 1, "at": START, "kind": "opened", "body": '{"name": "", "reason": "opened again"}'},
        {"number": 2, "at": START, "epoch": 1, "kind": "joined", "body": '{"name": "a", "share": "1/2"}'},
        {"number": 3, "at": START, "epoch": 2, "kind": "left", "body": '{"name": "b", "reason": "SIGTERM"}'},
    ],
}
"""A pool with a count of 6: one run has ended, one is active, and two wait for their own share."""


@pytest.mark.parametrize("kind", DATABASES)
def test_a_migrated_pool_lets_any_machine_run_the_rest_of_a_share(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    where = str(tmp_path / "server.db")
    if kind == "postgresql":
        where = request.getfixturevalue("postgresql").fresh()
    rows = {table: [{"sweep_id": "s"} | row for row in rows] for table, rows in POOLED.items()}
    _write(database_url(where), "0014", rows)
    numbers = iter(range(6, 100))
    with closing(Services(tmp_path, where=where)) as services:

        def tell(epoch: int, wants: int = 0, **more: Any) -> Granted:
            return pool.exchange(services.world, "s", told(epoch, next(numbers), wants, **more))[0]

        assert [run.run_id for run in tell(1, 2, ends=(end("r2"),)).again] == ["r3", "r4"]
        new = pool.join(services.world, "s", machine("c")).epoch
        assert new == 3
        for epoch, run, attempt in ((1, "r3", 2), (1, "r4", 2), (new, "r5", 1), (1, "r6", 1)):
            tell(epoch, wants=1)
            assert tell(epoch, 1, starts=(start(run, attempt),)).started == (run,)
            last = tell(epoch, ends=(end(run, attempt),))
        assert last.ends == SweepEnd("all 6 runs performed", 0)
        events = pool.news(services.world, "s", 0, 0).events
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    ended = {event.body["run_id"] for event in events if event.kind == "ended"}
    assert ended == {f"r{number}" for number in range(2, 7)}
