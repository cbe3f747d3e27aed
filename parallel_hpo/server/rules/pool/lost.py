"""What becomes of runs that a node lets go of, or leaves behind where it is gone: others get them. Pure."""

from __future__ import annotations

from parallel_hpo.protocol.pool import PooledEnd
from parallel_hpo.protocol.wire import as_json
from parallel_hpo.server.rules.pool.draft import PoolDraft
from parallel_hpo.server.rules.pool.state import PoolNode, PoolRun, RunPlace
from parallel_hpo.words import Outcome


def put_back(draft: PoolDraft, run: PoolRun) -> None:
    """Let a handed run, of which no attempt has started here, wait for any node."""
    draft.change_run(run.run_id, place=RunPlace.WAITING, epoch=None, since=draft.now)


def hand_on(draft: PoolDraft, run: PoolRun, end: PooledEnd, spent_s: float) -> None:
    """Let a run that a node can't go on with wait for any node: its next attempt, if one has started."""
    attempts = 1 if run.place is RunPlace.RUNNING else 0
    draft.change_run(
        run.run_id,
        place=RunPlace.WAITING,
        epoch=None,
        attempt=run.attempt + attempts,
        on=False,
        since=draft.now,
        spent_s=run.spent_s + spent_s,
        slot=None,
    )
    draft.tell("handed_on", run.epoch, as_json(end))


def bury(draft: PoolDraft, epoch: int, reason: str) -> None:
    """Take back all that a node has: it is gone, and what it says from now on changes nothing."""
    node = draft.nodes[epoch]
    for run in draft.runs_of(epoch, RunPlace.HANDED):
        put_back(draft, run)
    for run in draft.runs_of(epoch, RunPlace.RUNNING):
        spent_s = max(0.0, node.heard_at - run.since) if run.on else 0.0
        hand_on(draft, run, _cut_short(run, reason, spent_s), spent_s)
    draft.change_node(epoch, gone=True, reason=reason)
    if node.mark and node.number and not _speaks_elsewhere(draft, node):
        draft.dead_marks.append(node.mark)
    draft.tell("left", epoch, {"name": node.name, "reason": reason})


def _speaks_elsewhere(draft: PoolDraft, node: PoolNode) -> bool:
    """Say whether a node's supervisor has another epoch: an answer to its joining may have been lost."""
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
