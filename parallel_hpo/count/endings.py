"""Rules of a pool's end (all runs done, failures, time, a lost coordinator) and of requeued runs. Pure."""

from __future__ import annotations

from math import inf
from typing import Final

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import PooledEnd, end_as_json
from parallel_hpo.core.types import Outcome, StopKind
from parallel_hpo.count.policy import expected_s, reached_limit, too_late_reason
from parallel_hpo.count.state import Pool, PoolDraft, PoolNode, PoolRun, RunStatus

JUST_AFTER_S: Final = 0.01
"""Delay in seconds after the last moment at which a run would end in time."""


def stop(draft: PoolDraft, ends: SweepEnd) -> None:
    """End the sweep on request, unless it ends already in this way or a harder one."""
    old = draft.pool.ends
    if old is None or (old.stop is not None and ends.stop is not None and ends.stop.is_harder_than(old.stop)):
        draft.end(ends)


def end_if_tripped(draft: PoolDraft) -> None:
    """End the sweep if too many runs have failed."""
    limit = reached_limit(draft.pool.failures, draft.pool.limits)
    if limit and draft.pool.ends is None:
        draft.end(SweepEnd(limit, ExitCode.FAILURE_POLICY, StopKind.INTERRUPT))


def end_if_late(draft: PoolDraft) -> None:
    """End the sweep after its timeout or deadline, or if its coordinator is silent."""
    pool = draft.pool
    if pool.ends is not None:
        return
    has_begun = pool.has_coordinator or pool.epochs > 0
    if has_begun and pool.sweep_timeout_s is not None and draft.now - pool.opened_at >= pool.sweep_timeout_s:
        reason = f"sweep timeout {pool.sweep_timeout_s:g} s"
        draft.end(SweepEnd(reason, ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT))
    elif draft.left_s <= 0:
        draft.end(SweepEnd(f"deadline {pool.deadline}", ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT))
    elif pool.has_coordinator and draft.moment.silent_s(pool.coordinator_seen_at) >= pool.node_timeout_s:
        draft.end(SweepEnd("the sweep's coordinator is gone", ExitCode.RESUMABLE, StopKind.INTERRUPT))


def time_left(pool: Pool, now: float) -> float | None:
    """Return the seconds until time changes what may run; None: it never does, or the sweep ends already.

    That is the sweep's timeout or deadline, or the moment from which no run would end before the deadline.
    """
    if pool.ends is not None or (pool.sweep_timeout_s is None and pool.deadline is None):
        return None
    timeout_s = inf if pool.sweep_timeout_s is None else pool.opened_at + pool.sweep_timeout_s - now
    left_s = pool.left_s(now)
    too_late_in_s = left_s - (expected_s(pool.took) or 0.0) + JUST_AFTER_S
    return max(0.0, min(timeout_s, left_s, too_late_in_s if too_late_in_s > 0 else inf))


def end_if_done(draft: PoolDraft) -> None:
    """End the sweep if all started runs have ended, and no more may start."""
    pool = draft.pool
    if pool.ends is not None or draft.unstarted():
        return
    if pool.open_runs:
        _end_if_too_late(draft, waiting=len(draft.waiting()))
        return
    all_started = pool.count is not None and pool.started >= pool.count
    if all_started or pool.exhausted:
        reason = pool.exhausted or f"all {pool.count} runs performed"
        none_finished = pool.started > 0 and pool.failures.none_finished
        code = ExitCode.NO_RUN_FINISHED if none_finished else ExitCode.COMPLETE
        draft.end(SweepEnd(reason, code), "complete")
    else:
        _end_if_too_late(draft, waiting=0)


def node_end(draft: PoolDraft, node: PoolNode) -> SweepEnd | None:
    """Return why a node must leave at its own deadline while the sweep goes on, or None."""
    if node.deadline_at is None or not draft.is_too_late(node):
        return None
    left_s = node.deadline_at - draft.now
    deadline = "of this machine"
    if left_s <= 0:
        return SweepEnd(f"deadline {deadline}", ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT)
    reason = too_late_reason(draft.pool.took, left_s, deadline)
    return SweepEnd(reason, ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN)


def _end_if_too_late(draft: PoolDraft, *, waiting: int) -> None:
    """End the sweep if no run is active, and no more would end before the deadline."""
    pool = draft.pool
    if pool.open_runs == waiting and draft.is_too_late():
        reason = too_late_reason(pool.took, draft.left_s, str(pool.deadline))
        draft.end(SweepEnd(reason, ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN))


def release(draft: PoolDraft, run: PoolRun) -> None:
    """Let an assigned run that its node has not started wait for any node."""
    draft.change_run(run.run_id, status=RunStatus.WAITING, epoch=None, since=draft.now)


def requeue(draft: PoolDraft, run: PoolRun, end: PooledEnd, spent_s: float) -> None:
    """Let a run that its node can't continue wait for any node, with its next attempt if one had started."""
    attempts = 1 if run.status is RunStatus.RUNNING else 0
    draft.change_run(
        run.run_id,
        status=RunStatus.WAITING,
        epoch=None,
        attempt=run.attempt + attempts,
        on=False,
        since=draft.now,
        spent_s=run.spent_s + spent_s,
        slot=None,
    )
    draft.add_event(end.kind, run.epoch, end_as_json(end))


def mark_gone(draft: PoolDraft, epoch: int, reason: str) -> None:
    """Mark a node as gone and requeue its runs; its later messages change nothing."""
    node = draft.nodes[epoch]
    for run in draft.runs_of(epoch, RunStatus.ASSIGNED):
        release(draft, run)
    for run in draft.runs_of(epoch, RunStatus.RUNNING):
        spent_s = max(0.0, node.heard_at - run.since) if run.on else 0.0
        requeue(draft, run, _cut_short(run, reason, spent_s), spent_s)
    draft.change_node(epoch, gone=True, reason=reason)
    if node.mark and node.number and not _has_newer_epoch(draft, node):
        draft.dead_marks.append(node.mark)
    draft.add_event("left", epoch, {"name": node.name, "reason": reason})


def _has_newer_epoch(draft: PoolDraft, node: PoolNode) -> bool:
    """Return whether a node's session uses another epoch: the answer to its join may have been lost."""
    return any(other.mark == node.mark and other.number for other in draft.living())


def _cut_short(run: PoolRun, reason: str, spent_s: float) -> PooledEnd:
    return PooledEnd(
        run.run_id,
        run.attempt if run.on else None,
        outcome=Outcome.STOPPED,
        reason=reason,
        duration_s=spent_s,
        resumable=True,
        slot=run.slot,
    )
