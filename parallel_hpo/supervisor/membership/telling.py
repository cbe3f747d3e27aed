"""What is recorded of attempts, as a pool is told it."""

from __future__ import annotations

from typing import Final

from parallel_hpo.protocol.pool import PooledEnd, PooledRun, PooledStart
from parallel_hpo.supervisor.decisions.actions import RecordDrop, RecordEnd, RecordStart
from parallel_hpo.supervisor.decisions.view import OpenRun
from parallel_hpo.words import Outcome

REASON_CHARS: Final = 2_000
TRACEBACK_CHARS: Final = 20_000
"""What the pool is told of an end is for people; all of it is in this machine's ledger and logs."""


def start_of(record: RecordStart, device: str | None) -> PooledStart:
    """Return an attempt that is about to enter `main`."""
    run = record.run
    pooled = PooledRun(
        *(run.run_id, run.parameters, run.attempt, run.spent_s, run.deaths, run.preemptions, run.seed)
    )
    return PooledStart(pooled, int(record.slot), device)


def end_of(record: RecordEnd) -> PooledEnd:
    """Return the end of an attempt.

    Of one that is handed on only what it took itself: the next one is told what was before.
    """
    run, end = record.run, record.end
    handed_on = record.final and end.resumable
    return PooledEnd(
        run.run_id,
        run.attempt,
        end.outcome,
        end.reason[:REASON_CHARS],
        end.value,
        end.duration_s - run.spent_s if handed_on else end.duration_s,
        end.resumable,
        end.traceback[-TRACEBACK_CHARS:],
        record.final,
        int(record.slot),
    )


def end_of_waiting(record: RecordDrop) -> PooledEnd:
    """Return that a run gets no other attempt here."""
    end = record.end
    duration_s = 0.0 if end.resumable else end.duration_s
    return PooledEnd(
        record.run.run_id, None, end.outcome, end.reason, None, duration_s, resumable=end.resumable
    )


def never_begun(run: OpenRun) -> PooledEnd:
    """Return the end of an attempt that the pool may have counted as started, and that a stop forestalled."""
    reason = "a stop came before it began"
    return PooledEnd(run.run_id, run.attempt, Outcome.STOPPED, reason, resumable=True)
