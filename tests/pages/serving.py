"""A real server over a database that a test fills, and login links for browsers."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, insert

from parallel_hpo.core import keys
from parallel_hpo.server.store import tables
from tests.server.acting import MASTER_KEY, Clock, Services
from tests.server.embedded import Embedded

SPACE: Final = {
    "method": "random",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {
        "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 0.1},
        "optimizer": {
            "parameters": {"name": {"values": ["adam", "sgd"]}, "momentum": {"min": 0.0, "max": 0.9}}
        },
        "epochs": {"value": 3},
    },
}
LOSS_KEYS: Final = json.dumps(
    {"sets": [], "keys": {"loss": {"typeCounts": [{"type": "number", "count": 1}]}}, "lastStep": 0}
)


@dataclass
class Served:
    """A server, and its services, by which a test changes what it shows."""

    url: str
    services: Services
    end: Callable[[], object]
    """End the server, as its owner does."""

    def address(self, page: str) -> str:
        return keys.with_ticket(self.url + page, keys.ticket_key(MASTER_KEY), time.time())

    def empty(self) -> None:
        """Delete all sweeps and runs, and reset the services' clock; ids are not reused."""
        with self.services.world.database.write() as transaction:
            for table in reversed(tables.metadata.sorted_tables):
                if table not in (tables.alembic_version, tables.files_folder):
                    transaction.execute(delete(table))
        self.services.clock.now = time.time()


@contextmanager
def served(folder: Path, environment: dict[str, str]) -> Iterator[Served]:
    """Serve a folder's database."""
    services = Services(folder, clock=Clock(time.time()))
    server = Embedded(environment, folder / "server.db", key=MASTER_KEY)
    try:
        yield Served(server.said()["url"], services, server.end)
    finally:
        server.end()
        services.close()


def filled(services: Services, number: int, state: str = "FINISHED") -> str:
    """Create a sweep of ended runs, of which every tenth failed; return its id."""
    sweep = services.sweep(SPACE | {"run_cap": max(1, number)})
    services.set_state(sweep, state)
    project = _project_of(services, sweep)
    chance, now = random.Random(number), services.clock()
    rows = [_row(chance, sweep, project, now, place) for place in range(number)]
    with services.world.database.write() as transaction:
        for begin in range(0, number, 500):
            transaction.execute(insert(tables.runs), rows[begin : begin + 500])
    return sweep


def _project_of(services: Services, sweep: str) -> int:
    with services.world.database.read() as transaction:
        query = tables.sweeps.select().where(tables.sweeps.c.id == sweep)
        return int(transaction.execute(query).one().project_id)


def _row(chance: random.Random, sweep: str, project: int, now: float, place: int) -> dict[str, Any]:
    lr = 10 ** chance.uniform(-5, -1)
    loss = abs(math.log10(lr) + 3) + chance.random() / 10
    failed = place % 10 == 9
    optimizer = {"name": chance.choice(["adam", "sgd"]), "momentum": chance.uniform(0, 0.9)}
    given = {"lr": {"value": lr}, "optimizer": {"value": optimizer}, "epochs": {"value": 3}}
    begin = now - 10_000 + place
    return {
        "project_id": project,
        "name": f"run{place:05d}",
        "display_name": f"run{place:05d}",
        "state": "failed" if failed else "finished",
        "sweep_id": sweep,
        "sweep_index": place,
        "assigned": json.dumps(given),
        "waiting": False,
        "deliveries": 1,
        "sweep_revision": place + 1,
        "value": None if failed else loss,
        "stop_requested": False,
        "host": "box",
        "opened_by": f"mark_{place % 4}_{place % 4}",
        "tags": "[]",
        "config": json.dumps(given),
        "summary": json.dumps({"loss": loss}),
        "system_metrics": "{}",
        "history_keys": LOSS_KEYS,
        "history_lines": 0,
        "event_lines": 0,
        "log_lines": 0,
        "created_at": begin,
        "started_at": begin,
        "heard_at": begin + chance.uniform(5, 15),
    }
