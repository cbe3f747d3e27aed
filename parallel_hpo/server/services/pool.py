"""What machines and heads ask of a sweep's pool: each in one transaction, in which the rules decide.

What the pool finds out, the sweep hears in the same transaction where it is on this server: the agents
of a machine that is gone are sent away, and a sweep of which nothing is left is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from parallel_hpo.core.keys import node_key
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import (
    AT_ONCE,
    Exchange,
    Granted,
    Join,
    Joined,
    NewPool,
    NodeLost,
    PoolNews,
    PoolState,
    why_unlike,
)
from parallel_hpo.core.types import RunId
from parallel_hpo.count import pool_ending, pool_exchange
from parallel_hpo.count.pool_exchange import exchange as exchanged
from parallel_hpo.count.pool_state import Moment, Pool, PoolDraft, PoolNode
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.services import supervision
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.store import pool as store
from parallel_hpo.server.store import sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.values import RefusedError


def open_pool(world: AppContext, sweep_id: str, wanted: NewPool) -> PoolState:
    """Create a sweep's pool, or open it again; RefusedError (400): what is wanted can't be."""
    if wanted.path.rpartition("/")[2] != sweep_id:
        raise RefusedError(f"NewPool.path {wanted.path!r} is not sweep {sweep_id}'s", status=400)
    anew = _pool_for(wanted, world.clock())
    with world.database.write() as transaction:
        if store.find(transaction, sweep_id) is None:
            store.create(transaction, sweep_id, anew)
        store.put_facts(transaction, sweep_id, wanted)
        sweep = sweeps.find(transaction, sweep_id) if anew.is_local else None
        if sweep is not None:
            sweep_service.run_again(transaction, sweep, world.clock())
    with _changed(world, sweep_id) as draft:
        pool_exchange.open_again(draft, anew)
    pool = draft.pool
    return PoolState(pool.started, pool.started - pool.open_runs, pool.events, len(draft.living()))


def lives(world: AppContext, sweep_id: str, epoch: int) -> bool:
    """Say whether an epoch of a sweep's pool is not over."""
    with world.database.read() as transaction:
        return store.lives(transaction, sweep_id, epoch)


def facts(world: AppContext, sweep_id: str) -> str:
    """Return a pool as it was asked for, as JSON; RefusedError (404): there is none."""
    with world.database.read() as transaction:
        text = store.facts(transaction, sweep_id)
    if text is None:
        raise _unknown(sweep_id)
    return text


def join(world: AppContext, sweep_id: str, wants: Join) -> Joined:
    """Let a machine take part; RefusedError (409): its software is another, or all are to leave."""
    with world.database.read() as transaction:
        head = store.versions(transaction, sweep_id)
    if head is None:
        raise _unknown(sweep_id)
    unlike = why_unlike(head, wants.versions, wants.name)
    with _changed(
        world, sweep_id, dying=lambda node: node.epoch == wants.previous, share=wants.share
    ) as draft:
        if unlike:
            draft.tell("refused", None, {"name": wants.name, "reason": unlike})
        node = None if unlike or draft.pool.ends is not None else pool_exchange.join(draft, wants)
    if draft.pool.ends is not None:
        raise TooLateError(sweep_id, draft.pool.ends)
    if node is None:
        raise RefusedError(unlike, status=409)
    return Joined(node.epoch, node.name, node_key(world.master_key, sweep_id, node.epoch))


class TooLateError(RefusedError):
    """A machine comes when all are to leave."""

    def __init__(self, sweep_id: str, ends: SweepEnd) -> None:
        super().__init__(f"sweep {sweep_id} takes no machine any more: {ends.reason}", status=409)
        self.ends = ends


def exchange(world: AppContext, sweep_id: str, told: Exchange) -> tuple[Granted, bool]:
    """Take in what a node tells; return what it may do, and whether that must be on the disk first."""
    named = {start.run.run_id for start in told.starts} | {end.run_id for end in told.ends}
    with _changed(world, sweep_id, epoch=told.epoch, named=named) as draft:
        granted = exchanged(draft, told)
    if not granted.gone:
        world.notices.post(sweep_id, told.epoch, told.notices, world.clock())
    return granted, bool(draft.events)


def leave(world: AppContext, sweep_id: str, epoch: int, reason: str) -> None:
    """Let a node go of which nothing runs any more."""
    with _changed(world, sweep_id, dying=lambda node: node.epoch == epoch) as draft:
        pool_exchange.leave(draft, epoch, reason)


def lose(world: AppContext, sweep_id: str, lost: NodeLost) -> None:
    """Heed what an engine says of a node's task."""
    with _changed(
        world, sweep_id, by_head=True, dying=lambda node: pool_exchange.is_meant(lost, node)
    ) as draft:
        pool_exchange.lose(draft, lost)


def stop(world: AppContext, sweep_id: str, ends: SweepEnd) -> None:
    """Let all nodes leave as the head asks."""
    with _changed(world, sweep_id, by_head=True) as draft:
        pool_ending.stop(draft, ends)


def news(world: AppContext, sweep_id: str, event: int, notice: int) -> PoolNews:
    """Return what the head has not heard of yet; that it asks shows that it is there."""
    with _changed(world, sweep_id, by_head=True) as draft:
        ends, living = draft.pool.ends, len(draft.living())
    with world.database.read() as transaction:
        events = store.events_after(transaction, sweep_id, event, AT_ONCE)
        running = store.running(transaction, sweep_id)
    notices, last = world.notices.after(sweep_id, notice)
    return PoolNews(tuple(events), notices, last, ends, living, running)


def watch(world: AppContext, sweep_id: str, event: int) -> PoolNews:
    """Return the events after a number, and how the pool stands; change nothing, and vouch for no head."""
    moment = Moment(world.clock(), max(world.up_since, world.clock_set_at()))
    with world.database.read() as transaction:
        pool = store.find(transaction, sweep_id)
        if pool is None:
            raise _unknown(sweep_id)
        nodes = store.nodes(transaction, sweep_id)
        events = store.events_after(transaction, sweep_id, event, AT_ONCE)
        running = store.running(transaction, sweep_id)
    living = sum(1 for node in nodes if not pool_exchange.is_silent(node, pool, moment))
    return PoolNews(tuple(events), (), 0, pool.ends, living, running)


@contextmanager
def _changed(
    world: AppContext,
    sweep_id: str,
    *,
    epoch: int | None = None,
    named: Collection[RunId] = (),
    dying: Callable[[PoolNode], bool] = lambda node: False,
    by_head: bool = False,
    share: str = "",
) -> Iterator[PoolDraft]:
    """Yield a pool, without what has been silent for too long, and write what becomes of it.

    `epoch` is the node that speaks, `named` are the runs of which it speaks, `dying` the nodes of which
    all must be known, since they may be found to be gone, and `share` is what a node comes to perform.
    """
    moment = Moment(world.clock(), max(world.up_since, world.clock_set_at()))
    with world.database.write() as transaction:
        pool = store.find(transaction, sweep_id)
        if pool is None:
            raise _unknown(sweep_id)
        nodes = store.nodes(transaction, sweep_id, epoch)
        lost = [node.epoch for node in nodes if dying(node) or pool_exchange.is_silent(node, pool, moment)]
        runs = store.runs_concerned(transaction, sweep_id, named=named, holder=epoch, dying=lost)
        shares = {share, *(node.share for node in nodes), *(run.share for run in runs)} - {""}
        draft = PoolDraft(pool, nodes, runs, moment, store.shares(transaction, sweep_id, shares))
        if by_head:
            pool_exchange.hear_head(draft)
        pool_exchange.see_to_silence(draft)
        yield draft
        if pool.is_local:
            _tell_sweep(transaction, sweep_id, draft)
        store.write(transaction, sweep_id, draft)


def _tell_sweep(transaction: Transaction, sweep_id: str, draft: PoolDraft) -> None:
    """Let the sweep know of nodes that are gone, and that nothing is left."""
    for mark in draft.dead_marks:
        issued = supervision.dismiss(transaction, sweep_id, mark)
        started = store.started_among(transaction, sweep_id, [run.name for run in issued])
        supervision.settle(transaction, issued, started | set(draft.runs))
    if any(event.kind == "complete" for event in draft.events):
        sweep = sweeps.find(transaction, sweep_id)
        if sweep is not None:
            sweep_service.finish(transaction, sweep, draft.now)


def _pool_for(wanted: NewPool, now: float) -> Pool:
    from parallel_hpo.server.services.pool_limits import limits_in  # with pydantic, which is slow to import

    limits = limits_in(wanted.section)
    return Pool(
        is_local=wanted.backend == "local",
        count=wanted.count,
        node_timeout_s=wanted.node_timeout_s,
        headed=wanted.headed,
        limits=limits.of_failures,
        sweep_timeout_s=limits.sweep_timeout_s,
        deadline=limits.deadline if wanted.headed else None,  # else each machine has its own hour
        opened_at=now,
        head_heard_at=now,
    )


def _unknown(sweep_id: str) -> RefusedError:
    return RefusedError(
        f"sweep {sweep_id} has no pool here: one is made by `parallel-hpo run … --create`, or by a head",
        status=404,
    )
