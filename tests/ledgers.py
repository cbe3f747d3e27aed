"""Records as a session writes them into a ledger: events of its count, in the given order."""

from __future__ import annotations

import time
from typing import Any, Final

from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.pool_messages import (
    PooledEnd,
    PooledRun,
    PooledStart,
    PoolEvent,
    end_as_json,
    start_as_json,
)
from parallel_hpo.core.types import Parameters, RunId, Slot
from parallel_hpo.records.ledger import Ledger

NONE: Final[Parameters] = {}


def append(ledger: Ledger, kind: str, body: dict[str, Any], at: float | None = None) -> None:
    """Append one event, with the next number."""
    number, _ = ledger.last_event()
    event = PoolEvent(number + 1, time.time() if at is None else at, None, kind, body)
    ledger.append([event], durable=kind == "started")


def record_spawn(ledger: Ledger, slot: Slot, device: str | None, *, again: bool) -> None:
    append(ledger, "spawned", {"slot": slot, "device": device, "again": again})


def record_quarantine(ledger: Ledger, device: str, reason: str) -> None:
    append(ledger, "quarantined", {"device": device, "reason": reason})


def record_start(
    ledger: Ledger,
    run_id: str,
    *,
    parameters: Parameters = NONE,
    attempt: int = 1,
    slot: int = 0,
    device: str | None = None,
    seed: int | None = None,
    at: float | None = None,
) -> None:
    run = PooledRun(run_id=RunId(run_id), parameters=parameters, attempt=attempt, seed=seed)
    append(ledger, "started", start_as_json(PooledStart(run, Slot(slot), device)), at)


def record_attempt_end(ledger: Ledger, run_id: RunId, attempt: int, end: AttemptEnd) -> None:
    pooled = PooledEnd.like(end, run_id=run_id, attempt=attempt, final=False)
    append(ledger, "attempt_ended", end_as_json(pooled))


def record_end(ledger: Ledger, run_id: RunId, attempt: int | None, end: AttemptEnd) -> None:
    """Record the end of a run with the duration of all its attempts; attempt None: none was running."""
    append(ledger, "ended", end_as_json(PooledEnd.like(end, run_id=run_id, attempt=attempt)))
