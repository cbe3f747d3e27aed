"""What a node tells, and what it is granted: starts and ends are counted, runs and grants given out. Pure.

Who takes part in a pool: nodes join, leave, are lost, or are not heard any more. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Final

from parallel_hpo.core.pool_messages import (
    ELSEWHERE,
    OVER_WORD,
    WAITING,
    Exchange,
    Granted,
    Join,
    NodeLost,
    PooledEnd,
    PooledStart,
    as_json,
)
from parallel_hpo.core.types import Outcome, RunId
from parallel_hpo.count import pool_ending
from parallel_hpo.count.policy import FailureCount, count_outcome, next_lease, note_duration, runs_within
from parallel_hpo.count.pool_ending import bury
from parallel_hpo.count.pool_state import Moment, Pool, PoolDraft, PoolNode, PoolRun, PoolShare, RunStatus

TOO_LATE: Final = "it would not end before the deadline"
WITHOUT_END: int = 100
"""A worker's lease where the pool has no count: nothing is left over that it could keep from others, and
each lease costs a new agent."""


def exchange(draft: PoolDraft, told: Exchange) -> Granted:
    """Take in what a node tells, and return what it may do; of a node that is gone nothing counts.

    Of an exchange that is no newer than one that was heard before only the ends count: a start that the
    node has withdrawn since, or that was refused, would be counted, and nobody perform it.
    """
    node = draft.nodes.get(told.epoch)
    if node is None or node.gone:
        return Granted(gone=True)
    newest = told.number > node.number
    draft.change_node(node.epoch, heard_at=draft.now, number=max(told.number, node.number))
    for end in told.ends:
        _take_end(draft, node.epoch, end)
    answers = {start.run.run_id: _take_start(draft, node.epoch, start) for start in told.starts if newest}
    if newest:
        _hand_out(draft, node.epoch, told)
    pool_ending.end_if_done(draft)
    return _granted(draft, node.epoch, answers)


def _granted(draft: PoolDraft, epoch: int, answers: dict[RunId, str]) -> Granted:
    return Granted(
        granted=draft.nodes[epoch].granted,
        again=tuple(run.pooled() for run in draft.runs_of(epoch, RunStatus.HANDED)),
        started=tuple(run_id for run_id, why_not in answers.items() if not why_not),
        refused={run_id: why_not for run_id, why_not in answers.items() if why_not},
        each=_each(draft, draft.nodes[epoch]),
        ends=draft.pool.ends or pool_ending.of_share(draft, draft.nodes[epoch].share),
    )


def _each(draft: PoolDraft, node: PoolNode) -> int:
    each = _each_by_count(draft, node)
    if draft.pool.deadline is None:
        return each
    return max(1, min(each, runs_within(draft.pool.took, draft.left_s)))


def _each_by_count(draft: PoolDraft, node: PoolNode) -> int:
    left = draft.left_for(node)
    if left is None:
        return WITHOUT_END
    workers = sum(other.workers for other in draft.performing(node.share))
    return max(1, next_lease(left - node.unstarted, workers))


# --- ends ------------------------------------------------------------------------------


def _take_end(draft: PoolDraft, epoch: int, end: PooledEnd) -> None:
    run = draft.runs.get(end.run_id)
    if run is None or run.epoch != epoch or not _is_news(run, end):
        return
    if not end.final:
        _end_attempt(draft, run, end)
    elif end.resumable:
        pool_ending.hand_on(draft, run, end, end.duration_s)
    else:
        _end_run(draft, run, end)


def _is_news(run: PoolRun, end: PooledEnd) -> bool:
    """Say whether an end is of this attempt, and not told already."""
    if run.place not in (RunStatus.HANDED, RunStatus.RUNNING):
        return False
    if end.attempt is None:
        return not run.on and end.final
    return run.place is RunStatus.RUNNING and end.attempt == run.attempt and (run.on or end.final)


def _end_attempt(draft: PoolDraft, run: PoolRun, end: PooledEnd) -> None:
    """Note that an attempt is over and that the same node makes the next one."""
    died = end.outcome is Outcome.CRASHED
    draft.change_run(
        run.run_id,
        on=False,
        spent_s=run.spent_s + end.duration_s,
        deaths=run.deaths + died,
        preemptions=run.preemptions + (not died),
    )
    draft.tell("attempt_ended", run.epoch, as_json(end))


def _end_run(draft: PoolDraft, run: PoolRun, end: PooledEnd) -> None:
    draft.change_run(
        run.run_id, place=RunStatus.ENDED, epoch=None, on=False, since=draft.now, outcome=end.outcome
    )
    failures = count_outcome(draft.pool.failures, end.outcome)
    draft.change_pool(open_runs=draft.pool.open_runs - 1, failures=failures)
    if draft.pool.deadline is not None:
        draft.change_pool(took=note_duration(draft.pool.took, end.duration_s, end.outcome))
    if run.share:
        share = draft.shares[run.share]
        none_finished = share.none_finished and end.outcome is not Outcome.FINISHED
        draft.change_share(run.share, open_runs=share.open_runs - 1, none_finished=none_finished)
    draft.tell("ended", run.epoch, as_json(end))
    pool_ending.end_if_tripped(draft)


# --- starts ----------------------------------------------------------------------------


def _take_start(draft: PoolDraft, epoch: int, start: PooledStart) -> str:
    """Note that an attempt starts, and return '', or why it may not."""
    node, run = draft.nodes[epoch], draft.runs.get(start.run.run_id)
    if run is not None and run.epoch == epoch and run.on and run.attempt == start.run.attempt:
        return ""  # it was told before
    why_not = _why_not_new(draft, node) if run is None else _why_not_again(draft, epoch, run, start)
    if not why_not:
        _note_start(draft, node, run, start)
    return why_not


def _why_not_new(draft: PoolDraft, node: PoolNode) -> str:
    pool = draft.pool
    if pool.ends is not None:
        return f"the sweep ends: {pool.ends.reason}"
    if pool.count is not None and pool.started >= pool.count:
        return f"all {pool.count} runs have started"
    if draft.is_too_late():
        return TOO_LATE
    share = draft.shares.get(node.share)
    if share is not None and share.started >= share.count:
        return f"all {share.count} runs of share {share.share} have started"
    return "" if node.unstarted > 0 else "no run is granted to this machine now"


def _why_not_again(draft: PoolDraft, epoch: int, run: PoolRun, start: PooledStart) -> str:
    if run.place is RunStatus.ENDED:
        return f"{OVER_WORD}{run.outcome}"
    if run.epoch != epoch:
        return ELSEWHERE if run.epoch is not None else WAITING
    if draft.pool.ends is not None:
        return f"the sweep ends: {draft.pool.ends.reason}"
    if draft.is_too_late():
        return TOO_LATE
    attempt = run.attempt + 1 if run.place is RunStatus.RUNNING else run.attempt
    told = start.run.attempt
    return "" if told == attempt else f"attempt {told} can't start: {attempt} is the next one"


def _note_start(draft: PoolDraft, node: PoolNode, run: PoolRun | None, start: PooledStart) -> None:
    told = start.run
    if run is None:
        draft.change_node(node.epoch, used=node.used + 1)
        draft.change_pool(started=draft.pool.started + 1, open_runs=draft.pool.open_runs + 1)
        if node.share:
            share = draft.shares[node.share]
            draft.change_share(node.share, started=share.started + 1, open_runs=share.open_runs + 1)
    draft.runs[told.run_id] = PoolRun(
        run_id=told.run_id,
        place=RunStatus.RUNNING,
        epoch=node.epoch,
        attempt=told.attempt,
        on=True,
        since=draft.now,
        parameters=told.parameters,
        spent_s=told.spent_s,
        deaths=told.deaths,
        preemptions=told.preemptions,
        seed=told.seed,
        slot=start.slot,
        share=node.share if run is None else run.share,
    )
    draft.tell("started", node.epoch, as_json(start))


# --- what the node is to hold -----------------------------------------------------------


def _hand_out(draft: PoolDraft, epoch: int, told: Exchange) -> None:
    """Give a node what it wants, runs that wait first; what it does not want any more goes back."""
    if told.over and not draft.pool.exhausted:
        draft.change_pool(exhausted=told.over)
    ends = draft.pool.ends is not None or draft.is_too_late()
    wants, wants_again = (0 if ends else max(0, number) for number in (told.wants, told.wants_again))
    handed = draft.runs_of(epoch, RunStatus.HANDED)
    for run in handed[wants_again:]:
        pool_ending.put_back(draft, run)
    to_hand = draft.waiting(draft.nodes[epoch].share)[: max(0, wants_again - len(handed))]
    for run in to_hand:
        draft.change_run(run.run_id, place=RunStatus.HANDED, epoch=epoch, since=draft.now)
    _grant(draft, draft.nodes[epoch], wants if told.over else wants - len(handed) - len(to_hand))


def _grant(draft: PoolDraft, node: PoolNode, room: int) -> None:
    """Let a node have so many new runs unstarted, or as many as there are."""
    left = node.unstarted if draft.pool.exhausted else draft.left_for(node)
    room = room if left is None else min(room, left)
    draft.change_node(node.epoch, granted=node.used + max(0, room))


def is_silent(node: PoolNode, pool: Pool, moment: Moment) -> bool:
    """Say whether a node was not heard for its lease."""
    return moment.silent_s(node.heard_at) >= pool.node_timeout_s


def see_to_silence(draft: PoolDraft) -> None:
    """Bury the nodes whose lease is over, and end what has had its time."""
    for node in draft.living():
        if is_silent(node, draft.pool, draft.moment):
            bury(draft, node.epoch, f"not heard for {draft.pool.node_timeout_s:g} s")
    pool_ending.end_if_late(draft)
    pool_ending.end_if_done(draft)


def join(draft: PoolDraft, wants: Join) -> PoolNode:
    """Let a machine take part under a name of its own, and return its node.

    Only the epoch that a supervisor names is over by its word: the request itself may come twice, late.
    """
    if any(old.epoch == wants.previous for old in draft.living()):
        bury(draft, wants.previous, "it joined anew")
    node = PoolNode(
        epoch=draft.pool.epochs + 1,
        name=_free_name(wants.name, {node.name for node in draft.living()}),
        mark=wants.mark,
        workers=wants.workers,
        heard_at=draft.now,
        share=wants.share,
    )
    if draft.pool.epochs == 0 and not draft.pool.headed:
        draft.change_pool(opened_at=draft.now)  # its time begins with its first machine: queues may be long
    if wants.share:
        share = draft.shares.get(wants.share, PoolShare(share=wants.share, count=wants.share_count))
        draft.shares[wants.share] = replace(share, count=wants.share_count)
    draft.change_pool(epochs=node.epoch)
    draft.nodes[node.epoch] = node
    told = {"name": node.name, "workers": node.workers, "mark": node.mark, "directory": wants.directory}
    draft.tell("joined", node.epoch, told | {"share": wants.share})
    return node


def _free_name(name: str, taken: set[str]) -> str:
    more = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(free for free in more if free not in taken)


def leave(draft: PoolDraft, epoch: int, reason: str) -> None:
    """Let a node go that says that nothing of it runs any more; once it is gone nothing changes."""
    node = draft.nodes.get(epoch)
    if node is not None and not node.gone:
        bury(draft, epoch, reason)
    pool_ending.end_if_done(draft)


def lose(draft: PoolDraft, lost: NodeLost) -> None:
    """Heed an engine's word of a node where it proves that nothing of it runs; a hint changes nothing."""
    for node in draft.living():
        if lost.returned and is_meant(lost, node):
            bury(draft, node.epoch, lost.reason or "its task has returned")
    pool_ending.end_if_done(draft)


def is_meant(lost: NodeLost, node: PoolNode) -> bool:
    """Say whether an engine's word is of that node."""
    return node.name == lost.name and lost.epoch in (None, node.epoch)


def hear_head(draft: PoolDraft) -> None:
    """Note that the head is there."""
    draft.change_pool(head_heard_at=draft.now)


def open_again(draft: PoolDraft, anew: Pool) -> None:
    """Let a pool go on with another count and other limits; what it knows of runs and nodes stays."""
    old = draft.pool
    draft.pool = replace(
        anew,
        started=old.started,
        open_runs=old.open_runs,
        failures=FailureCount(none_finished=old.failures.none_finished),
        took=old.took,
        epochs=old.epochs,
        events=old.events,
    )
    draft.tell("opened", None, {"name": "", "reason": "opened again", "count": anew.count})
