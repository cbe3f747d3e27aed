"""A pool in the course of one change: what was read of it, what becomes of that, and the events.

Only those runs are here that the change may concern; counts over all of them are the pool's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from parallel_hpo.policy import runs_within
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.protocol.pool import PoolEvent
from parallel_hpo.protocol.wire import as_json
from parallel_hpo.server.rules.pool.state import Moment, Pool, PoolNode, PoolRun, PoolShare, RunPlace
from parallel_hpo.words import RunId


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
        return self.pool.deadline is not None and runs_within(self.pool.took, self.left_s) == 0

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

    def end(self, ends: Ending, kind: str = "stopped") -> None:
        """Let all nodes leave."""
        self.change_pool(ends=ends)
        self.tell(kind, None, {"name": "", **as_json(ends)})
