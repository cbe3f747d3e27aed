"""Messages of machines and coordinators to a pool, and an in-memory pool to test its rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import (
    Exchange,
    Granted,
    Join,
    NewPool,
    NodeLost,
    PooledEnd,
    PooledRun,
    PooledStart,
    PoolEvent,
    Versions,
)
from parallel_hpo.core.types import Outcome, RunId
from parallel_hpo.count import endings, rules
from parallel_hpo.count.policy import FailureLimits
from parallel_hpo.count.state import Moment, Pool, PoolDraft, PoolNode, PoolRun, RunStatus
from tests.server.server_logic import START, Clock

VERSIONS: Final = Versions(python="3.12", wandb="0.30", parallel_hpo="1.0")
TIMEOUT_S: Final = 30.0


def new_pool(sweep: str = "s", **more: Any) -> NewPool:
    """Return a pool of 4 runs, whose sweep is on another server."""
    known: dict[str, Any] = {
        "path": f"local/p/{sweep}",
        "backend": "wandb",
        "url": f"http://server/local/p/sweeps/{sweep}",
        "count": 4,
        "node_timeout_s": TIMEOUT_S,
        "section": {},
        "versions": VERSIONS,
        "has_coordinator": False,
    }
    return NewPool(**known | more)


def machine(name: str = "a", mark: str = "", workers: int = 2) -> Join:
    return Join(name, VERSIONS, workers, mark)


def start(run: str, attempt: int = 1, **more: Any) -> PooledStart:
    return PooledStart(PooledRun(RunId(run), {"x": 1}, attempt, **more), slot=0)


def end(run: str, attempt: int | None = 1, outcome: Outcome = Outcome.FINISHED, **more: Any) -> PooledEnd:
    return PooledEnd(RunId(run), attempt, outcome=outcome, **more)


def stopped(run: str, attempt: int | None = 1) -> PooledEnd:
    """Return the end of a run that its machine can't continue."""
    return end(run, attempt, Outcome.STOPPED, resumable=True)


def told(epoch: int, number: int, wants: int = 0, **more: Any) -> Exchange:
    return Exchange(epoch, number, wants, **{"wants_again": wants} | more)


@dataclass
class PoolInMemory:
    """A pool kept in dictionaries."""

    clock: Clock = field(default_factory=Clock)
    up_since: float = START
    pool: Pool | None = None
    nodes: dict[int, PoolNode] = field(default_factory=dict)
    runs: dict[RunId, PoolRun] = field(default_factory=dict)
    told: list[PoolEvent] = field(default_factory=list)

    def draft(self) -> PoolDraft:
        assert self.pool is not None
        moment = Moment(self.clock.now, self.up_since)
        draft = PoolDraft(self.pool, self.nodes.values(), self.runs.values(), moment)
        rules.apply_timeouts(draft)
        return draft

    def keep(self, draft: PoolDraft) -> None:
        self.pool, self.nodes, self.runs = draft.pool, draft.nodes, draft.runs
        self.told += draft.events
        open_runs = [run for run in self.runs.values() if run.status is not RunStatus.ENDED]
        assert (self.pool.started, self.pool.open_runs) == (len(self.runs), len(open_runs))

    def open(self, wanted: NewPool) -> None:
        now = self.clock.now
        limits = FailureLimits(**wanted.section.get("failures", {}))
        anew = Pool(
            is_local=False,
            count=wanted.count,
            node_timeout_s=wanted.node_timeout_s,
            has_coordinator=wanted.has_coordinator,
            limits=limits,
            sweep_timeout_s=wanted.section.get("sweep_timeout_s"),
            deadline=wanted.section.get("deadline"),
            opened_at=now,
            coordinator_seen_at=now,
        )
        self.pool = self.pool or anew
        with self.changed() as draft:
            rules.reopen(draft, anew)

    @contextmanager
    def changed(self) -> Iterator[PoolDraft]:
        draft = self.draft()
        yield draft
        self.keep(draft)

    def join(self, wants: Join) -> int | None:
        with self.changed() as draft:
            node = None if draft.pool.ends is not None else rules.join(draft, wants)
        return None if node is None else node.epoch

    def exchange(self, told: Exchange) -> Granted:
        with self.changed() as draft:
            return rules.exchange(draft, told)

    def leave(self, epoch: int, reason: str) -> None:
        with self.changed() as draft:
            rules.leave(draft, epoch, reason)

    def lose(self, lost: NodeLost) -> None:
        with self.changed() as draft:
            rules.lose(draft, lost)

    def stop(self, ends: SweepEnd) -> None:
        with self.changed() as draft:
            endings.stop(draft, ends)

    def look(self) -> SweepEnd | None:
        with self.changed() as draft:
            return draft.pool.ends

    def hear_head(self) -> None:
        assert self.pool is not None
        self.pool = replace(self.pool, coordinator_seen_at=self.clock.now)

    def may_start(self) -> int:
        return 0 if self.pool is None else self.pool.started + self.draft().unstarted()

    def events(self) -> list[PoolEvent]:
        return self.told

    def kinds(self) -> list[str]:
        """Return the kinds of all events."""
        return [event.kind for event in self.told]


class Talk:
    """A pool and two machines, which number their exchanges."""

    def __init__(self, **wanted: Any) -> None:
        self.pool = PoolInMemory()
        self.pool.open(new_pool(**wanted))
        self.a, self.b = (self.pool.join(machine(name)) or 0 for name in "ab")
        self.number = 0

    def tell(self, epoch: int, wants: int = 0, **more: Any) -> Granted:
        self.number += 1
        return self.pool.exchange(told(epoch, self.number, wants, **more))

    def begin(self, epoch: int, run: str) -> None:
        self.tell(epoch, wants=1)
        assert self.tell(epoch, starts=(start(run),)).started == (run,)

    def why_not(self, epoch: int, attempt: PooledStart) -> str:
        return self.tell(epoch, wants=1, starts=(attempt,)).refused[attempt.run.run_id]

    def perform(
        self, epoch: int, run: str, outcome: Outcome = Outcome.FINISHED, minutes: float = 0.0
    ) -> Granted:
        """Let a machine perform a run in so many minutes."""
        self.begin(epoch, run)
        self.pool.clock.now += 60 * minutes
        return self.tell(epoch, ends=(end(run, outcome=outcome, duration_s=60 * minutes),))

    def stop(self, epoch: int, *runs: str) -> None:
        """Let a machine return first attempts to the pool."""
        self.tell(epoch, ends=tuple(map(stopped, runs)))

    def again(self, epoch: int, wants: int = 1) -> list[tuple[str, int]]:
        """Return the requeued runs that a machine is assigned, and their attempts."""
        return [(run.run_id, run.attempt) for run in self.tell(epoch, wants).again]

    def wait(self, seconds: float, heard: int) -> None:
        """Let time pass while one machine keeps sending."""
        for _ in range(10):
            self.pool.clock.now += seconds / 10
            self.tell(heard)
