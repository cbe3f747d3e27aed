"""When nodes are to leave: nothing is left, too much failed, time is over, the head is gone. Pure."""

from __future__ import annotations

from parallel_hpo.errors import ExitCode
from parallel_hpo.policy import why_too_late, why_tripped
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.server.rules.pool.draft import PoolDraft
from parallel_hpo.words import StopKind


def stop(draft: PoolDraft, ends: Ending) -> None:
    """Let all nodes leave as somebody asks, unless they are to leave already, and not more gently."""
    old = draft.pool.ends
    if old is None or (old.stop is not None and ends.stop is not None and ends.stop.is_harder_than(old.stop)):
        draft.end(ends)


def end_if_tripped(draft: PoolDraft) -> None:
    """End a sweep of which too many runs have failed."""
    tripped = why_tripped(draft.pool.failures, draft.pool.limits)
    if tripped and draft.pool.ends is None:
        draft.end(Ending(tripped, ExitCode.FAILURE_POLICY, StopKind.INTERRUPT))


def end_if_late(draft: PoolDraft) -> None:
    """End a sweep that has had its time, or whose head is not heard any more."""
    pool = draft.pool
    if pool.ends is not None:
        return
    has_begun = pool.headed or pool.epochs > 0
    if has_begun and pool.sweep_timeout_s is not None and draft.now - pool.opened_at >= pool.sweep_timeout_s:
        reason = f"sweep timeout {pool.sweep_timeout_s:g} s"
        draft.end(Ending(reason, ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT))
    elif draft.left_s <= 0:
        draft.end(Ending(f"deadline {pool.deadline}", ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT))
    elif pool.headed and draft.moment.silent_s(pool.head_heard_at) >= pool.node_timeout_s:
        draft.end(Ending("the sweep's head is gone", ExitCode.RESUMABLE, StopKind.INTERRUPT))


def of_share(draft: PoolDraft, name: str) -> Ending | None:
    """Return why the nodes of a share are to leave: nothing is left to do in it. None: they are not."""
    share = draft.shares.get(name)
    if share is None or share.open_runs:
        return None
    all_started = share.started >= share.count
    if not all_started and (not draft.pool.exhausted or draft.unstarted()):
        return None
    reason = f"all {share.count} runs of share {name} performed" if all_started else draft.pool.exhausted
    none_finished = share.started > 0 and share.none_finished
    return Ending(reason, ExitCode.NO_RUN_FINISHED if none_finished else ExitCode.COMPLETE)


def end_if_done(draft: PoolDraft) -> None:
    """End a sweep of which nothing is left to do: all that started has ended, and nothing more may start."""
    pool = draft.pool
    if pool.ends is not None or draft.unstarted():
        return
    if pool.open_runs:
        _end_if_too_late(draft, waiting=len(draft.waiting("")))
        return
    all_started = pool.count is not None and pool.started >= pool.count
    if all_started or pool.exhausted:
        reason = pool.exhausted or f"all {pool.count} runs performed"
        none_finished = pool.started > 0 and pool.failures.none_finished
        code = ExitCode.NO_RUN_FINISHED if none_finished else ExitCode.COMPLETE
        draft.end(Ending(reason, code), "complete")
    else:
        _end_if_too_late(draft, waiting=0)


def _end_if_too_late(draft: PoolDraft, *, waiting: int) -> None:
    """End a sweep of which nothing is on, and nothing more would end before the deadline."""
    pool = draft.pool
    if pool.open_runs == waiting and draft.is_too_late():
        why = why_too_late(pool.took, draft.left_s, str(pool.deadline))
        draft.end(Ending(why, ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN))
