"""Made-up answers of a pool, for tests of its clients."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.messages import AttemptEnd, Consumption, SweepEnd
from parallel_hpo.core.notices import Notice, to_json
from parallel_hpo.core.pool_messages import (
    NewPool,
    NodeLost,
    PooledEnd,
    PooledRun,
    PooledStart,
    PoolEvent,
    PoolNews,
    as_json,
)
from parallel_hpo.core.types import Outcome, RunId

ALL_DONE = SweepEnd("all 2 runs performed", 0)

USED = Consumption(1.5, 0.25, None)


def joined(number: int, epoch: int, name: str, mark: str = "", directory: str = "") -> PoolEvent:
    body = {"name": name, "workers": 1, "mark": mark, "directory": directory}
    return PoolEvent(number, 100.0, epoch, "joined", body)


def left(number: int, epoch: int, name: str, reason: str) -> PoolEvent:
    return PoolEvent(number, 100.0, epoch, "left", {"name": name, "reason": reason})


def started(number: int, epoch: int, run: str, attempt: int = 1, slot: int = 0) -> PoolEvent:
    start = PooledStart(PooledRun(RunId(run), {"x": 1}, attempt), slot, "GPU-1")
    return PoolEvent(number, 100.0 + number, epoch, "started", as_json(start))


def over(
    number: int,
    epoch: int,
    run: str,
    outcome: Outcome,
    *,
    kind: str = "ended",
    attempt: int = 1,
    duration_s: float = 2.0,
) -> PoolEvent:
    value = 0.5 if outcome is Outcome.FINISHED else None
    end = AttemptEnd(outcome=outcome, reason="reason", value=value, duration_s=duration_s, consumption=USED)
    pooled = PooledEnd.like(end, run_id=RunId(run), attempt=attempt, slot=0)
    return PoolEvent(number, 100.0, epoch, kind, as_json(pooled))


def news(
    *events: PoolEvent,
    ends: SweepEnd | None = None,
    living: int = 1,
    notices: Mapping[int, Notice] | None = None,
) -> PoolNews:
    """Return news with these events, and notices by the epoch of their machine."""
    told = tuple(
        (number, epoch, to_json(each)) for number, (epoch, each) in enumerate((notices or {}).items(), 1)
    )
    return PoolNews(events, told, len(told), ends, living, 0)


@dataclass
class RecordedPool:
    """A pool that gives these answers, the last one for ever, and records what it gets."""

    answers: list[PoolNews | BackendError]
    told: list[SweepEnd | NodeLost] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)
    refusals: list[BackendError] = field(default_factory=list)
    """Errors of the next stops."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def facts(self) -> NewPool | None:
        return None

    def create(self, pool: NewPool) -> object:
        return pool

    def stop(self, ends: SweepEnd) -> None:
        self.told.append(ends)
        if self.refusals:
            raise self.refusals.pop()

    def lost(self, lost: NodeLost) -> None:
        self.told.append(lost)

    def news(self, event: int, notice: int) -> PoolNews:
        with self.lock:
            self.asked.append((event, notice))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BackendError):
            raise answer
        return answer

    def then(self, *answers: PoolNews | BackendError) -> None:
        """Answer with these from now on."""
        with self.lock:
            self.answers[:] = answers
