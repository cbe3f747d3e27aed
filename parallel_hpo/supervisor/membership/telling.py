"""What a machine tells a pool: of attempts, of its software, and, while it is in one, notices."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Final

from parallel_hpo.client_release import installed_client
from parallel_hpo.notices import Notice, Observer, SweepOpened
from parallel_hpo.protocol.pool import PooledEnd, PooledRun, PooledStart, Versions
from parallel_hpo.supervisor.decisions.actions import RecordDrop, RecordEnd
from parallel_hpo.supervisor.decisions.view import OpenRun
from parallel_hpo.supervisor.membership.membership import Membership
from parallel_hpo.version import __version__
from parallel_hpo.words import Outcome, Slot

REASON_CHARS: Final = 2_000
TRACEBACK_CHARS: Final = 20_000
"""What the pool is told of an end is for people; all of it is in this machine's ledger and logs."""


def start_of(slot: Slot, run: OpenRun, device: str | None) -> PooledStart:
    """Return an attempt that is about to enter `main`."""
    pooled = PooledRun(
        *(run.run_id, run.parameters, run.attempt, run.spent_s, run.deaths, run.preemptions, run.seed)
    )
    return PooledStart(pooled, int(slot), device)


def end_of(record: RecordEnd) -> PooledEnd:
    """Return the end of an attempt.

    Of one that is handed on only what it took itself: the next one is told what was before.
    """
    run, end = record.run, record.end
    handed_on = record.final and end.resumable
    return PooledEnd.like(
        end,
        *(run.run_id, run.attempt, record.final, int(record.slot)),
        reason=end.reason[:REASON_CHARS],
        duration_s=end.duration_s - run.spent_s if handed_on else end.duration_s,
        traceback=end.traceback[-TRACEBACK_CHARS:],
    )


def end_of_waiting(record: RecordDrop) -> PooledEnd:
    """Return that a run gets no other attempt here."""
    end = record.end
    duration_s = 0.0 if end.resumable else end.duration_s
    return PooledEnd.like(end, record.run.run_id, None, duration_s=duration_s)


def never_begun(run: OpenRun) -> PooledEnd:
    """Return the end of an attempt that the pool may have counted as started, and that a stop forestalled."""
    reason = "a stop came before it began"
    return PooledEnd(run.run_id, run.attempt, outcome=Outcome.STOPPED, reason=reason, resumable=True)


def versions_here() -> Versions:
    """Return what must be the same on all machines."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Versions(python, installed_client(), __version__)


class Relay:
    """An observer for two; from any thread."""

    def __init__(self, observer: Observer, count: int | None) -> None:
        """`count` is the sweep's, over all machines."""
        self._observer = observer
        self._count = count
        self.membership: Membership | None = None
        """Set while there is one."""

    def __call__(self, notice: Notice) -> None:
        """Take a notice."""
        if isinstance(notice, SweepOpened):
            workers = "1 worker" if notice.workers == 1 else f"{notice.workers} workers"
            where = f"many machines, this one with {workers}"
            self._observer(replace(notice, count=self._count, machines=where))
        else:
            self._observer(notice)
        membership = self.membership
        if membership is not None:
            membership.note(notice)
