from __future__ import annotations

import queue

from parallel_hpo.core.types import Slot
from parallel_hpo.processes.reaper import MemoryWatch


def test_each_worker_is_looked_at_in_turn_until_it_is_gone() -> None:
    told: queue.Queue[tuple[Slot, float]] = queue.Queue()
    used = {10: 1.5, 11: 2.5, 12: 0.0}
    watch = MemoryWatch(lambda *seen: told.put(seen), used_mb=used.__getitem__, every_s=0.001)
    watch.add(Slot(0), 10)
    watch.add(Slot(1), 11)
    watch.add(Slot(2), 12)  # it has just ended: nothing is known of it
    watch.start()
    assert {told.get(timeout=10) for _ in range(4)} == {(Slot(0), 1.5), (Slot(1), 2.5)}
    watch.remove(Slot(0))
    del used[10]
    while told.get(timeout=10)[0] != 1 or not told.empty():
        pass
    watch.close()
    watch.join(10)
    assert not watch.is_alive()
