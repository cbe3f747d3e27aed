"""No order of deaths, cuts, freezes, lost and late messages loses a run, has it on twice, or one too many.

Here on the pool's rules alone; the same play is given on a database.
"""

from __future__ import annotations

from hypothesis import settings

from tests.server.pool_in_memory import PoolInMemory
from tests.server.pool_play import PoolPlay, Side


class PlayInMemory(PoolPlay):
    def make_side(self) -> Side:
        return PoolInMemory()


TestPlayInMemory = PlayInMemory.TestCase
TestPlayInMemory.settings = settings(max_examples=150, stateful_step_count=60)
