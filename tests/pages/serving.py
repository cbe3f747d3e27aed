"""A real server over a database that a test fills, and login links for browsers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import delete

from parallel_hpo.core import keys
from parallel_hpo.server.store import tables
from tests.server.embedded import Embedded
from tests.server.server_logic import MASTER_KEY, Clock, Services

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
