"""Who takes part in a pool: nodes join, leave, are lost, or are not heard any more. Pure."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from parallel_hpo.policy import FailureCount
from parallel_hpo.protocol.pool import Join, NodeLost
from parallel_hpo.server.rules.pool import ending
from parallel_hpo.server.rules.pool.draft import PoolDraft
from parallel_hpo.server.rules.pool.lost import bury
from parallel_hpo.server.rules.pool.state import Moment, Pool, PoolNode, PoolShare


def is_silent(node: PoolNode, pool: Pool, moment: Moment) -> bool:
    """Say whether a node was not heard for its lease."""
    return moment.silent_s(node.heard_at) >= pool.node_timeout_s


def see_to_silence(draft: PoolDraft) -> None:
    """Bury the nodes whose lease is over, and end what has had its time."""
    for node in draft.living():
        if is_silent(node, draft.pool, draft.moment):
            bury(draft, node.epoch, f"not heard for {draft.pool.node_timeout_s:g} s")
    ending.end_if_late(draft)
    ending.end_if_done(draft)


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
    ending.end_if_done(draft)


def lose(draft: PoolDraft, lost: NodeLost) -> None:
    """Heed an engine's word of a node where it proves that nothing of it runs; a hint changes nothing."""
    for node in draft.living():
        if lost.returned and is_meant(lost, node):
            bury(draft, node.epoch, lost.reason or "its task has returned")
    ending.end_if_done(draft)


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
