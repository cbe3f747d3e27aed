"""A pool with shares, of a version that had them, goes on after the migration that removes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import URL, MetaData, create_engine, insert

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import Granted, NewPool, as_json
from parallel_hpo.server.services import pool
from parallel_hpo.server.store.database import database_url
from parallel_hpo.server.store.migrations import upgrade
from tests.postgresql import PostgreSQL
from tests.server.acting import START, Services
from tests.server.conftest import DATABASES
from tests.server.pooling import TIMEOUT_S, VERSIONS, end, machine, new_pool, start, told

SWEEP: Final = "s"
REVISION: Final = "0014"
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
RUN: Final[dict[str, Any]] = {
    "since": START,
    "parameters": '{"x": 1}',
    "spent_s": 0.0,
    "deaths": 0,
    "preemptions": 0,
    "attempt": 1,
    "is_on": False,
}
WRITTEN: Final[dict[str, list[dict[str, Any]]]] = {
    "pools": [POOL],
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
"""Rows of that version: of a count of 6, one run has ended, one is on, and two wait for their own share."""


@pytest.fixture(params=DATABASES)
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    """The server on a database of that revision."""
    url = database_url(str(tmp_path / "server.db"))
    if request.param == "postgresql":
        postgresql: PostgreSQL = request.getfixturevalue("postgresql")
        url = database_url(postgresql.fresh())
    _write(url, new_pool(SWEEP, count=6))
    with closing(Services(tmp_path, where=url.render_as_string(hide_password=False))) as services:
        yield services


def _write(url: URL, wanted: NewPool) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        upgrade(connection, target=REVISION)
    tables = MetaData()
    tables.reflect(engine)
    facts = {"versions": json.dumps(as_json(VERSIONS)), "facts": json.dumps(as_json(wanted))}
    with engine.begin() as connection:
        for name, rows in {**WRITTEN, "pool_facts": [facts]}.items():
            for row in rows:
                connection.execute(insert(tables.tables[name]), {"sweep_id": SWEEP} | row)
    engine.dispose()


def test_any_machine_runs_what_a_share_had_left_until_the_whole_count_is_done(services: Services) -> None:
    numbers = iter(range(6, 100))

    def tell(epoch: int, wants: int = 0, **more: Any) -> Granted:
        return pool.exchange(services.world, SWEEP, told(epoch, next(numbers), wants, **more))[0]

    assert [run.run_id for run in tell(1, 2, ends=(end("r2"),)).again] == ["r3", "r4"]
    new = pool.join(services.world, SWEEP, machine("c")).epoch
    assert new == 3
    for epoch, run, attempt in ((1, "r3", 2), (1, "r4", 2), (new, "r5", 1), (1, "r6", 1)):
        tell(epoch, wants=1)
        assert tell(epoch, 1, starts=(start(run, attempt),)).started == (run,)
        last = tell(epoch, ends=(end(run, attempt),))
    assert last.ends == SweepEnd("all 6 runs performed", 0)
    news = pool.news(services.world, SWEEP, 0, 0)
    assert [event.number for event in news.events] == list(range(1, len(news.events) + 1))
    assert {event.body["run_id"] for event in news.events if event.kind == "ended"} == {
        *("r2", "r3", "r4", "r5", "r6")
    }
