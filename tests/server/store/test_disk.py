from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from parallel_hpo.server.store.database import Disk

LOG = Path("/sweeps/server.db-wal")


class SlowDisk:
    """Takes its time for the first flush, and counts how many of the log have begun and ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.first_began = Event()
        self.go_on = Event()

    def __call__(self, path: Path) -> None:
        if path != LOG:
            return
        self.begun += 1
        self.first_began.set()
        assert self.go_on.wait(10)
        self.ended += 1


def test_a_flush_that_had_begun_before_is_not_enough() -> None:
    slow = SlowDisk()
    log = Disk(LOG, flush_path=slow)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(log.flush)
        assert slow.first_began.wait(10)
        second = threads.submit(log.flush)
        slow.go_on.set()
        first.result(10)
        second.result(10)
    assert slow.ended == 2


def test_whoever_asks_returns_after_a_flush_that_began_later() -> None:
    slow = SlowDisk()
    log = Disk(LOG, flush_path=slow)

    def ask() -> bool:
        begun = slow.begun
        log.flush()
        return slow.ended > begun

    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(log.flush)
        assert slow.first_began.wait(10)
        others = [threads.submit(ask) for _ in range(19)]
        slow.go_on.set()
        first.result(10)
        assert all(other.result(10) for other in others)


def test_a_log_that_is_not_there_has_nothing_to_flush(tmp_path: Path) -> None:
    Disk(tmp_path / "server.db-wal").flush()
