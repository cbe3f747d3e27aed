"""The same play as that of the pool's rules, with what each change reads and writes of a database."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import Exchange, Granted, Join, NewPool, NodeLost, PoolEvent
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.services import pool
from parallel_hpo.server.store import pool as store
from parallel_hpo.server.values import RefusedError
from tests.server.acting import START, Services
from tests.server.pool_play import PoolPlay, Side

SWEEP = "s"


class PoolOnDatabase:
    """A pool as the server's services keep it."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.clock = services.clock
        self.up_since = START

    @property
    def world(self) -> AppContext:
        world = self.services.world
        return AppContext(
            database=world.database,
            files=world.files,
            master_key=world.master_key,
            clock=world.clock,
            new_id=world.new_id,
            new_seed=world.new_seed,
            up_since=self.up_since,
        )

    def open(self, wanted: NewPool) -> None:
        pool.open_pool(self.world, SWEEP, wanted)

    def join(self, wants: Join) -> int | None:
        try:
            return pool.join(self.world, SWEEP, wants).epoch
        except RefusedError:
            return None

    def exchange(self, told: Exchange) -> Granted:
        return pool.exchange(self.world, SWEEP, told)[0]

    def leave(self, epoch: int, reason: str) -> None:
        pool.leave(self.world, SWEEP, epoch, reason)

    def lose(self, lost: NodeLost) -> None:
        pool.lose(self.world, SWEEP, lost)

    def stop(self, ends: SweepEnd) -> None:
        pool.stop(self.world, SWEEP, ends)

    def look(self) -> SweepEnd | None:
        return pool.news(self.world, SWEEP, 0, 0).ends

    def may_start(self) -> int:
        with self.world.database.read() as transaction:
            found = store.find(transaction, SWEEP)
            nodes = store.nodes(transaction, SWEEP)
        return 0 if found is None else found.started + sum(node.unstarted for node in nodes)

    def events(self) -> list[PoolEvent]:
        with self.world.database.read() as transaction:
            return store.events_after(transaction, SWEEP, 0, 10_000)


class PlayOnDatabase(PoolPlay):
    def make_side(self) -> Side:
        self.folder = tempfile.TemporaryDirectory()
        self.services = Services(Path(self.folder.name))
        return PoolOnDatabase(self.services)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "services"):
                self.services.close()
                self.folder.cleanup()


TestPlayOnDatabase = PlayOnDatabase.TestCase
TestPlayOnDatabase.settings = settings(max_examples=10, stateful_step_count=40)
