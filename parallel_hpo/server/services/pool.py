"""Requests of nodes and coordinators on a sweep's pool: one transaction each, decided in `count`.

If the sweep is on this server, the same transaction updates it: the agents of a lost node are dismissed,
and a completed sweep is finished.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from parallel_hpo.config.sweep_types import Goal
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
    version_problem,
)
from parallel_hpo.core.types import Outcome, RunId, SweepPath
from parallel_hpo.count import endings, rules
from parallel_hpo.count.state import Moment, Pool, PoolDraft, PoolNode
from parallel_hpo.server import engines
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.server.services import supervision
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.store import pool as store
from parallel_hpo.server.store import sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.values import RefusedError


def open_pool(app: AppContext, sweep_id: str, request: NewPool) -> PoolState:
    """Create a sweep's pool, or reopen it; RefusedError (400) for an invalid request."""
    if request.path.rpartition("/")[2] != sweep_id:
        raise RefusedError(f"NewPool.path {request.path!r} is not sweep {sweep_id}'s", status=400)
    new = _new_pool(request, app.clock())
    with app.database.write() as transaction:
        if store.find(transaction, sweep_id) is None:
            store.create(transaction, sweep_id, new)
        store.put_facts(transaction, sweep_id, request)
        sweep = sweeps.find(transaction, sweep_id) if new.is_local else None
        if sweep is not None:
            sweep_service.resume(transaction, sweep, app.clock())
    with _pool_draft(app, sweep_id) as draft:
        rules.reopen(draft, new)
    pool = draft.pool
    return PoolState(pool.started, pool.started - pool.open_runs, pool.events, len(draft.living()))


def is_alive(app: AppContext, sweep_id: str, epoch: int) -> bool:
    """Return whether the node with this epoch is still in the pool."""
    with app.database.read() as transaction:
        return store.is_alive(transaction, sweep_id, epoch)


def facts(app: AppContext, sweep_id: str) -> str:
    """Return the request that opened a pool, as JSON; RefusedError (404) if there is none."""
    with app.database.read() as transaction:
        text = store.facts(transaction, sweep_id)
    if text is None:
        raise _unknown(sweep_id)
    return text


def join(app: AppContext, sweep_id: str, request: Join) -> Joined:
    """Add a node to a pool; RefusedError (409) if its software differs, or the pool has ended."""
    with app.database.read() as transaction:
        head = store.versions(transaction, sweep_id)
    if head is None:
        raise _unknown(sweep_id)
    problem = version_problem(head, request.versions, request.name)
    with _pool_draft(app, sweep_id, dying=lambda node: node.epoch == request.previous) as draft:
        if problem:
            draft.add_event("refused", None, {"name": request.name, "reason": problem})
        node = None if problem or draft.pool.ends is not None else rules.join(draft, request)
    if draft.pool.ends is not None:
        raise PoolEndedError(sweep_id, draft.pool.ends)
    if problem or node is None:
        raise RefusedError(str(problem), status=409)
    return Joined(node.epoch, node.name, node_key(app.master_key, sweep_id, node.epoch))


class PoolEndedError(RefusedError):
    """A node joins after its pool has ended."""

    def __init__(self, sweep_id: str, ends: SweepEnd) -> None:
        super().__init__(f"sweep {sweep_id} takes no machine any more: {ends.reason}", status=409)
        self.ends = ends


def exchange(app: AppContext, sweep_id: str, report: Exchange) -> tuple[Granted, bool]:
    """Apply a node's report; return its grant, and whether that must be on the disk before the answer."""
    named = {start.run.run_id for start in report.starts} | {end.run_id for end in report.ends}
    with _pool_draft(app, sweep_id, epoch=report.epoch, named=named) as draft:
        granted = rules.exchange(draft, report)
    if not granted.gone:
        app.notices.post(sweep_id, report.epoch, report.notices, app.clock())
    return granted, bool(draft.events)


def leave(app: AppContext, sweep_id: str, epoch: int, reason: str) -> None:
    """Remove a node that runs nothing any more."""
    with _pool_draft(app, sweep_id, dying=lambda node: node.epoch == epoch) as draft:
        rules.leave(draft, epoch, reason)


def lose(app: AppContext, sweep_id: str, lost: NodeLost) -> None:
    """Apply an engine's report that a node's task was lost."""
    with _pool_draft(
        app, sweep_id, by_coordinator=True, dying=lambda node: rules.concerns(lost, node)
    ) as draft:
        rules.lose(draft, lost)


def stop(app: AppContext, sweep_id: str, ends: SweepEnd) -> None:
    """End a pool at the coordinator's request: all nodes leave."""
    with _pool_draft(app, sweep_id, by_coordinator=True) as draft:
        endings.stop(draft, ends)


def divide(app: AppContext, sweep_id: str, ends: SweepEnd) -> None:
    """End a pool whose count is divided into shares; RefusedError (409) if a machine has ever joined it."""
    with _pool_draft(app, sweep_id) as draft:
        if not draft.pool.epochs:
            endings.stop(draft, ends)
    if draft.pool.epochs:
        raise RefusedError(f"machines have joined sweep {sweep_id}", status=409)


def news(app: AppContext, sweep_id: str, event: int, notice: int) -> PoolNews:
    """Return events and notices that are new to the coordinator, and renew its last contact."""
    with _pool_draft(app, sweep_id, by_coordinator=True) as draft:
        ends, living = draft.pool.ends, len(draft.living())
    with app.database.read() as transaction:
        events = store.events_after(transaction, sweep_id, event, AT_ONCE)
        running = store.running(transaction, sweep_id)
    notices, last = app.notices.after(sweep_id, notice)
    return PoolNews(tuple(events), notices, last, ends, living, running)


def watch(app: AppContext, sweep_id: str, event: int) -> PoolNews:
    """Return the events after a number and the pool's state; unlike `news`, change nothing."""
    moment = Moment(app.clock(), max(app.up_since, app.clock_set_at()))
    with app.database.read() as transaction:
        pool = store.find(transaction, sweep_id)
        if pool is None:
            raise _unknown(sweep_id)
        nodes = store.nodes(transaction, sweep_id)
        events = store.events_after(transaction, sweep_id, event, AT_ONCE)
        running = store.running(transaction, sweep_id)
    living = sum(1 for node in nodes if not rules.is_silent(node, pool, moment))
    return PoolNews(tuple(events), (), 0, pool.ends, living, running)


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """A sweep as its pool's counts say it, without its runs."""

    sweep_id: str
    opened_at: float
    """Seconds since the epoch."""
    backend: str
    project: str
    name: str | None
    metric: str | None
    best: float | None
    """Best value of its finished runs; None also if the sweep is on another server."""
    is_paused: bool
    is_performed: bool
    """Whether a node has a lease."""
    machines: tuple[str, ...]
    """Names of all nodes that ever joined."""
    count: int | None
    outcomes: Mapping[Outcome | None, int]
    """Number of runs by outcome; None: those that are open."""


def summaries(app: AppContext, *, without: Collection[str]) -> list[PoolSummary]:
    """Return summaries of all pools, except those of sweeps with these ids; the first opened first."""
    moment = Moment(app.clock(), max(app.up_since, app.clock_set_at()))
    with app.database.read() as transaction:
        pools = [each for each in store.all_pools(transaction) if each[0] not in without]
        return [_summary(transaction, sweep_id, pool, moment) for sweep_id, pool in pools]


def _summary(transaction: Transaction, sweep_id: str, pool: Pool, moment: Moment) -> PoolSummary:
    sweep = sweeps.find(transaction, sweep_id) if pool.is_local else None
    if sweep is not None:
        project, name, wanted = sweep.project, sweep.display_name, engines.metric_of(sweep.config)
        maximize = wanted is not None and wanted.goal is Goal.MAXIMIZE
        metric = None if wanted is None else wanted.name
        best = None if wanted is None else sweeps.best_value(transaction, sweep_id, maximize=maximize)
    else:
        request = json.loads(str(store.facts(transaction, sweep_id)))
        project, name = SweepPath.parse(request["path"]).project, request["configuration"].get("name")
        metric, best = (request["configuration"].get("metric") or {}).get("name"), None
    nodes = store.nodes(transaction, sweep_id)
    return PoolSummary(
        sweep_id=sweep_id,
        opened_at=pool.opened_at,
        backend="local" if pool.is_local else "wandb",
        project=project,
        name=name,
        metric=metric,
        best=best,
        is_paused=sweep is not None and sweep.state is SweepState.PAUSED,
        is_performed=any(not rules.is_silent(node, pool, moment) for node in nodes),
        machines=store.node_names(transaction, sweep_id),
        count=pool.count,
        outcomes=store.outcomes(transaction, sweep_id),
    )


@contextmanager
def _pool_draft(
    app: AppContext,
    sweep_id: str,
    *,
    epoch: int | None = None,
    named: Collection[RunId] = (),
    dying: Callable[[PoolNode], bool] = lambda node: False,
    by_coordinator: bool = False,
) -> Iterator[PoolDraft]:
    """Yield a draft of a pool, after silent nodes have timed out, and write its changes.

    `epoch` is the node that sends the request and `named` are the runs in it. `dying` selects nodes that
    the request may remove: all of their runs are loaded.
    """
    moment = Moment(app.clock(), max(app.up_since, app.clock_set_at()))
    with app.database.write() as transaction:
        pool = store.find(transaction, sweep_id)
        if pool is None:
            raise _unknown(sweep_id)
        nodes = store.nodes(transaction, sweep_id, epoch)
        lost = [node.epoch for node in nodes if dying(node) or rules.is_silent(node, pool, moment)]
        runs = store.runs_concerned(transaction, sweep_id, named=named, holder=epoch, dying=lost)
        draft = PoolDraft(pool, nodes, runs, moment)
        if by_coordinator:
            draft.change_pool(coordinator_seen_at=draft.now)
        rules.apply_timeouts(draft)
        yield draft
        if pool.is_local:
            _update_sweep(transaction, sweep_id, draft)
        store.write(transaction, sweep_id, draft)


def _update_sweep(transaction: Transaction, sweep_id: str, draft: PoolDraft) -> None:
    """Dismiss the agents of lost nodes, and finish the sweep once the pool is complete."""
    for mark in draft.dead_marks:
        issued = supervision.dismiss_agents(transaction, sweep_id, mark)
        started = store.started_among(transaction, sweep_id, [run.name for run in issued])
        supervision.requeue_unstarted(transaction, issued, started | set(draft.runs))
    if any(event.kind == "complete" for event in draft.events):
        sweep = sweeps.find(transaction, sweep_id)
        if sweep is not None:
            sweep_service.finish(transaction, sweep, draft.now)


def _new_pool(request: NewPool, now: float) -> Pool:
    from parallel_hpo.server.services.pool_limits import limits_in  # imports pydantic, which is slow

    limits = limits_in(request.section)
    return Pool(
        is_local=request.backend == "local",
        count=request.count,
        node_timeout_s=request.node_timeout_s,
        has_coordinator=request.has_coordinator,
        limits=limits.of_failures,
        sweep_timeout_s=limits.sweep_timeout_s,
        deadline=limits.deadline
        if request.has_coordinator
        else None,  # without a coordinator each node has its own deadline
        opened_at=now,
        coordinator_seen_at=now,
    )


def _unknown(sweep_id: str) -> RefusedError:
    return RefusedError(
        f"sweep {sweep_id} has no pool here: `parallel-hpo run … --create` or a coordinator creates one",
        status=404,
    )
