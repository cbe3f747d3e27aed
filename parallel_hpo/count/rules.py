"""Requests of nodes to a pool: join, exchange, leave. Counts starts and ends, and assigns runs. Pure."""

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
    end_as_json,
    start_as_json,
)
from parallel_hpo.core.types import Outcome, RunId
from parallel_hpo.count import endings
from parallel_hpo.count.endings import mark_gone
from parallel_hpo.count.policy import FailureCount, count_outcome, next_lease, note_duration, too_late_reason
from parallel_hpo.count.state import Moment, Pool, PoolDraft, PoolNode, PoolRun, RunStatus

TOO_LATE: Final = "it would not end before the deadline"
WITHOUT_END: int = 100
"""Size of a worker's lease in a pool without a count: it keeps no run from others, and each lease costs a
new agent."""


def exchange(draft: PoolDraft, request: Exchange) -> Granted:
    """Apply a node's request and return what it may do; requests of a gone node change nothing.

    If the exchange is not newer than an earlier one, only its ends count: the node may have withdrawn a start
    since, or it was refused, so nobody would execute it.
    """
    node = draft.nodes.get(request.epoch)
    if node is None or node.gone:
        return Granted(gone=True)
    newest = request.number > node.number
    draft.change_node(
        node.epoch,
        heard_at=draft.now,
        number=max(request.number, node.number),
        workers=request.workers or node.workers,
    )
    for end in request.ends:
        _take_end(draft, node.epoch, end)
    refusals = {start.run.run_id: _take_start(draft, node.epoch, start) for start in request.starts if newest}
    if newest:
        _assign(draft, node.epoch, request)
    endings.end_if_done(draft)
    return _granted(draft, node.epoch, refusals)


def _granted(draft: PoolDraft, epoch: int, refusals: dict[RunId, str | None]) -> Granted:
    node = draft.nodes[epoch]
    left = draft.left_for(node)
    return Granted(
        granted=node.granted,
        again=tuple(run.pooled() for run in draft.runs_of(epoch, RunStatus.ASSIGNED)),
        started=tuple(run_id for run_id, refusal in refusals.items() if not refusal),
        refused={run_id: refusal for run_id, refusal in refusals.items() if refusal},
        each=_lease_size(draft, node, left),
        held=_held(draft, node, left),
        ends=draft.pool.ends or endings.node_end(draft, node),
    )


def _held(draft: PoolDraft, node: PoolNode, left: int | None) -> str:
    """Return why no run starts on a node though the sweep goes on; '' if runs may start."""
    if draft.pool.ends is not None or not draft.is_too_late(node):
        return ""
    if left is not None and left <= 0 and not draft.waiting():  # negative after the count was lowered
        return ""
    return too_late_reason(draft.pool.took, draft.left_at(node), draft.pool.deadline or "of this machine")


def _lease_size(draft: PoolDraft, node: PoolNode, left: int | None) -> int:
    workers = sum(other.workers for other in draft.living())
    size = WITHOUT_END if left is None else max(1, next_lease(left, workers))
    most = draft.runs_in_time(draft.left_at(node))
    return size if most is None else max(1, min(size, most))


# --- ends ------------------------------------------------------------------------------


def _take_end(draft: PoolDraft, epoch: int, end: PooledEnd) -> None:
    run = draft.runs.get(end.run_id)
    if run is None or run.epoch != epoch or not _is_new(run, end):
        return
    if not end.final:
        _end_attempt(draft, run, end)
    elif end.resumable:
        endings.requeue(draft, run, end, end.duration_s)
    else:
        _end_run(draft, run, end)


def _is_new(run: PoolRun, end: PooledEnd) -> bool:
    """Return whether an end of a node's run is of the current attempt, and not a repetition."""
    if end.attempt is None:
        return not run.on and end.final
    return run.status is RunStatus.RUNNING and end.attempt == run.attempt and (run.on or end.final)


def _end_attempt(draft: PoolDraft, run: PoolRun, end: PooledEnd) -> None:
    """Record the end of an attempt whose run stays with the same node."""
    died = end.outcome is Outcome.CRASHED
    draft.change_run(
        run.run_id,
        on=False,
        spent_s=run.spent_s + end.duration_s,
        deaths=run.deaths + died,
        preemptions=run.preemptions + (not died),
    )
    draft.add_event(end.kind, run.epoch, end_as_json(end))


def _end_run(draft: PoolDraft, run: PoolRun, end: PooledEnd) -> None:
    draft.change_run(
        run.run_id, status=RunStatus.ENDED, epoch=None, on=False, since=draft.now, outcome=end.outcome
    )
    failures = count_outcome(draft.pool.failures, end.outcome)
    draft.change_pool(open_runs=draft.pool.open_runs - 1, failures=failures)
    if draft.has_deadline:
        took_s = max(0.0, end.duration_s - run.spent_s)
        draft.change_pool(took=note_duration(draft.pool.took, took_s, end.outcome))
    draft.add_event(end.kind, run.epoch, end_as_json(end))
    endings.end_if_tripped(draft)


# --- starts ----------------------------------------------------------------------------


def _take_start(draft: PoolDraft, epoch: int, start: PooledStart) -> str | None:
    """Record the start of an attempt; return why it is refused, or None."""
    node, run = draft.nodes[epoch], draft.runs.get(start.run.run_id)
    if run is not None and run.epoch == epoch and run.on and run.attempt == start.run.attempt:
        return None  # a repetition
    refusal = _refusal_of_new(draft, node) if run is None else _refusal_of_rerun(draft, epoch, run, start)
    if not refusal:
        _note_start(draft, node, run, start)
    return refusal


def _refusal_of_new(draft: PoolDraft, node: PoolNode) -> str | None:
    pool = draft.pool
    if pool.ends is not None:
        return f"the sweep ends: {pool.ends.reason}"
    if pool.count is not None and pool.started >= pool.count:
        return f"all {pool.count} runs have started"
    if draft.is_too_late(node):
        return TOO_LATE
    return None if node.unstarted > 0 else "no run is granted to this machine now"


def _refusal_of_rerun(draft: PoolDraft, epoch: int, run: PoolRun, start: PooledStart) -> str | None:
    if run.status is RunStatus.ENDED:
        return f"{OVER_WORD}{run.outcome}"
    if run.epoch != epoch:
        return ELSEWHERE if run.epoch is not None else WAITING
    if draft.pool.ends is not None:
        return f"the sweep ends: {draft.pool.ends.reason}"
    if draft.is_too_late(draft.nodes[epoch]):
        return TOO_LATE
    attempt = run.attempt + 1 if run.status is RunStatus.RUNNING else run.attempt
    asked = start.run.attempt
    return None if asked == attempt else f"attempt {asked} can't start: {attempt} is the next one"


def _note_start(draft: PoolDraft, node: PoolNode, run: PoolRun | None, start: PooledStart) -> None:
    if run is None:
        draft.change_node(node.epoch, used=node.used + 1)
        draft.change_pool(started=draft.pool.started + 1, open_runs=draft.pool.open_runs + 1)
    draft.runs[start.run.run_id] = PoolRun(
        **vars(start.run),
        status=RunStatus.RUNNING,
        epoch=node.epoch,
        on=True,
        since=draft.now,
        slot=start.slot,
    )
    draft.add_event("started", node.epoch, start_as_json(start))


# --- grants and assignments -------------------------------------------------------------


def _assign(draft: PoolDraft, epoch: int, request: Exchange) -> None:
    """Give a node the runs it wants, waiting ones first, and release those it no longer wants."""
    if request.over and not draft.pool.exhausted:
        draft.change_pool(exhausted=request.over)
    ends = draft.pool.ends is not None or draft.is_too_late(draft.nodes[epoch])
    wants, wants_again = (0 if ends else max(0, number) for number in (request.wants, request.wants_again))
    assigned = draft.runs_of(epoch, RunStatus.ASSIGNED)
    for run in assigned[wants_again:]:
        endings.release(draft, run)
    taken = draft.waiting()[: max(0, wants_again - len(assigned))]
    for run in taken:
        draft.change_run(run.run_id, status=RunStatus.ASSIGNED, epoch=epoch, since=draft.now)
    _grant(draft, draft.nodes[epoch], wants if request.over else wants - len(assigned) - len(taken))


def _grant(draft: PoolDraft, node: PoolNode, room: int) -> None:
    """Grant a node up to `room` unstarted new runs, as far as the count allows."""
    left = node.unstarted if draft.pool.exhausted else draft.left_for(node)
    granted = node.used + max(0, room if left is None else min(room, left))
    if granted != node.granted:
        draft.change_node(node.epoch, granted=granted)


def is_silent(node: PoolNode, pool: Pool, moment: Moment) -> bool:
    """Return whether a node's lease has expired."""
    return moment.silent_s(node.heard_at) >= pool.node_timeout_s


def apply_timeouts(draft: PoolDraft) -> None:
    """Mark nodes with an expired lease as gone, and end the sweep if its time is up."""
    for node in draft.living():
        if is_silent(node, draft.pool, draft.moment):
            mark_gone(draft, node.epoch, f"not heard for {draft.pool.node_timeout_s:g} s")
    endings.end_if_late(draft)
    endings.end_if_done(draft)


def join(draft: PoolDraft, request: Join) -> PoolNode:
    """Add a machine as a new node with a unique name, and return the node.

    Only the session's named previous epoch is marked as gone, since the request may arrive twice, and late.
    """
    if any(old.epoch == request.previous for old in draft.living()):
        mark_gone(draft, request.previous, "it joined again")
    node = PoolNode(
        epoch=draft.pool.epochs + 1,
        name=_free_name(request.name, {node.name for node in draft.living()}),
        mark=request.mark,
        workers=request.workers,
        heard_at=draft.now,
        deadline_at=None if request.deadline_s is None else draft.now + request.deadline_s,
    )
    if draft.pool.epochs == 0 and not draft.pool.has_coordinator:
        draft.change_pool(opened_at=draft.now)  # its time begins with its first machine: queues may be long
    draft.change_pool(epochs=node.epoch)
    draft.nodes[node.epoch] = node
    body = {"name": node.name, "workers": node.workers, "mark": node.mark, "directory": request.directory}
    draft.add_event("joined", node.epoch, body)
    return node


def _free_name(name: str, taken: set[str]) -> str:
    more = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(free for free in more if free not in taken)


def leave(draft: PoolDraft, epoch: int, reason: str) -> None:
    """Mark a node as gone at its own request, after its last process has ended."""
    node = draft.nodes.get(epoch)
    if node is not None and not node.gone:
        mark_gone(draft, epoch, reason)
    endings.end_if_done(draft)


def lose(draft: PoolDraft, lost: NodeLost) -> None:
    """Mark a node as gone if its engine proves that nothing of it runs; ignore mere hints."""
    for node in draft.living():
        if lost.returned and concerns(lost, node):
            mark_gone(draft, node.epoch, lost.reason or "its task has returned")
    endings.end_if_done(draft)


def concerns(lost: NodeLost, node: PoolNode) -> bool:
    """Return whether an engine's report is about this node."""
    return node.name == lost.name and lost.epoch in (None, node.epoch)


def reopen(draft: PoolDraft, opened: Pool) -> None:
    """Give a pool a new count and new limits; its runs and nodes stay."""
    old = draft.pool
    draft.pool = replace(
        opened,
        started=old.started,
        open_runs=old.open_runs,
        failures=FailureCount(none_finished=old.failures.none_finished),
        took=old.took,
        epochs=old.epochs,
        events=old.events,
    )
    draft.add_event("opened", None, {"name": "", "reason": "opened again", "count": opened.count})
