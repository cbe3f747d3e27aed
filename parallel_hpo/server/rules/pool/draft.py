"""A pool in the course of one change: what was read of it, what becomes of that, and the events.

Only those runs are here that the change may concern; counts over all of them are the pool's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from parallel_hpo.policy import longest_lease
from parallel_hpo.protocol.pool import Ends, PooledEnd, PoolEvent
from parallel_hpo.protocol.wire import as_json
from parallel_hpo.server.rules.pool.state import Moment, Pool, PoolNode, PoolRun, PoolShare, RunPlace
from parallel_hpo.words import Outcome, RunId


@dataclass(frozen=True, slots=True)
class PoolAsRead:
    """What a change began with."""

    pool: Pool
    nodes: Mapping[int, PoolNode]
    runs: Mapping[RunId, PoolRun]
    shares: Mapping[str, PoolShare]


class PoolDraft:
    """Changes a pool in memory; whoever made it writes what has become of it."""

    def __init__(
        self,
        pool: Pool,
        nodes: Iterable[PoolNode],
        runs: Iterable[PoolRun],
        moment: Moment,
        shares: Iterable[PoolShare] = (),
    ) -> None:
        """`nodes` are all that live, and whoever speaks; `shares` those of nodes and runs at least."""
        self.pool = pool
        self.nodes = {node.epoch: node for node in nodes}
        self.runs = {run.run_id: run for run in runs}
        self.shares = {share.share: share for share in shares}
        self.before = PoolAsRead(pool, dict(self.nodes), dict(self.runs), dict(self.shares))
        self.moment = moment
        self.events: list[PoolEvent] = []
        self.dead_marks: list[str] = []
        """Of supervisors that are gone by this change."""

    @property
    def now(self) -> float:
        return self.moment.now

    def living(self) -> list[PoolNode]:
        """Return the nodes that have a lease."""
        return [node for node in self.nodes.values() if not node.gone]

    @property
    def left_s(self) -> float:
        """How much time is left until the deadline."""
        return self.pool.left_s(self.now)

    def is_too_late(self) -> bool:
        """Say whether a run that starts now would not end before the deadline."""
        return self.pool.deadline is not None and longest_lease(self.pool.took, self.left_s) == 0

    def performing(self, share: str) -> list[PoolNode]:
        """Return the nodes that have a lease and perform that share; '': all that have one."""
        return [node for node in self.living() if share in ("", node.share)]

    def unstarted(self, share: str = "") -> int:
        """Return how many new runs all nodes together may start still, or those of a share."""
        return sum(node.unstarted for node in self.performing(share))

    def left_for(self, node: PoolNode) -> int | None:
        """Return how many new runs a node may have unstarted, at most; None: there is no limit."""
        pool, share = self.pool, self.shares.get(node.share)
        left = []
        if pool.count is not None:
            left.append(pool.count - pool.started - self.unstarted())
        if share is not None:
            left.append(share.count - share.started - self.unstarted(node.share))
        return min(left) + node.unstarted if left else None

    def runs_of(self, epoch: int, place: RunPlace) -> list[PoolRun]:
        """Return a node's runs at that place, oldest first."""
        return self._sorted(run for run in self.runs.values() if (run.epoch, run.place) == (epoch, place))

    def waiting(self, share: str) -> list[PoolRun]:
        """Return the runs that wait for a node that performs that share, oldest first; '': for any."""
        waiting = (run for run in self.runs.values() if run.place is RunPlace.WAITING)
        return self._sorted(run for run in waiting if share in ("", run.share))

    def _sorted(self, runs: Iterable[PoolRun]) -> list[PoolRun]:
        return sorted(runs, key=lambda run: (run.since, run.run_id))

    def change_pool(self, **changes: Any) -> None:
        self.pool = replace(self.pool, **changes)

    def change_share(self, share: str, **changes: Any) -> None:
        self.shares[share] = replace(self.shares[share], **changes)

    def change_node(self, epoch: int, **changes: Any) -> None:
        self.nodes[epoch] = replace(self.nodes[epoch], **changes)

    def change_run(self, run_id: RunId, **changes: Any) -> None:
        self.runs[run_id] = replace(self.runs[run_id], **changes)

    def tell(self, kind: str, epoch: int | None, body: Mapping[str, Any]) -> None:
        """Add an event."""
        number = self.pool.events + 1
        self.change_pool(events=number)
        self.events.append(PoolEvent(number, self.now, epoch, kind, body))

    def put_back(self, run: PoolRun) -> None:
        """Let a handed run, of which no attempt has started here, wait for any node."""
        self.change_run(run.run_id, place=RunPlace.WAITING, epoch=None, since=self.now)

    def hand_on(self, run: PoolRun, end: PooledEnd, spent_s: float) -> None:
        """Let a run that a node can't go on with wait for any node: its next attempt, if one has started."""
        attempts = 1 if run.place is RunPlace.RUNNING else 0
        self.change_run(
            run.run_id,
            place=RunPlace.WAITING,
            epoch=None,
            attempt=run.attempt + attempts,
            on=False,
            since=self.now,
            spent_s=run.spent_s + spent_s,
            slot=None,
        )
        self.tell("handed_on", run.epoch, as_json(end))

    def end(self, ends: Ends, kind: str = "stopped") -> None:
        """Let all nodes leave."""
        self.change_pool(ends=ends)
        self.tell(kind, None, {"name": "", **as_json(ends)})

    def bury(self, epoch: int, reason: str) -> None:
        """Take back all that a node has: it is gone, and what it says from now on changes nothing."""
        node = self.nodes[epoch]
        for run in self.runs_of(epoch, RunPlace.HANDED):
            self.put_back(run)
        for run in self.runs_of(epoch, RunPlace.RUNNING):
            spent_s = max(0.0, node.heard_at - run.since) if run.on else 0.0
            self.hand_on(run, _cut_short(run, reason, spent_s), spent_s)
        self.change_node(epoch, gone=True, reason=reason)
        if node.mark and node.number and not self._speaks_elsewhere(node):
            self.dead_marks.append(node.mark)
        self.tell("left", epoch, {"name": node.name, "reason": reason})

    def _speaks_elsewhere(self, node: PoolNode) -> bool:
        """Say whether a node's supervisor has another epoch: an answer to its joining may have been lost."""
        return any(other.mark == node.mark and other.number for other in self.living())


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
