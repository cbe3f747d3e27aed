"""A sweep's pool as the rules know it: frozen values, of which `store` makes rows.

waiting ─▶ handed ─▶ running ─▶ ended
   ▲          │         │
   └──────────┴─────────┘  given back, handed on, or its node is gone

A pool in the course of one change: what was read of it, what becomes of that, and the events.

Only those runs are here that the change may concern; counts over all of them are the pool's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf
from typing import Any

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import PooledRun, PoolEvent, as_json
from parallel_hpo.core.types import Outcome, Parameters, RunId
from parallel_hpo.core.values import deadline_at
from parallel_hpo.count.policy import FailureCount, FailureLimits, runs_within


class RunStatus(StrEnum):
    """Where a run that the pool knows is."""

    WAITING = "waiting"
    """For any node that wants it."""
    HANDED = "handed"
    """A node is to run it again, and has not started it."""
    RUNNING = "running"
    """A node has started it; between two attempts it is that node's still."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A sweep for many machines, without what only a node needs."""

    is_local: bool
    """The sweep is on the same server."""
    count: int | None
    node_timeout_s: float
    headed: bool
    limits: FailureLimits = field(default_factory=FailureLimits)
    sweep_timeout_s: float | None = None
    deadline: str | None = None
    """In the user's words; a duration is counted from `opened_at`. None also where there is no head."""
    opened_at: float
    """When it was opened last; times are seconds since the epoch."""
    head_heard_at: float
    started: int = 0
    """Distinct runs that have entered `main`."""
    open_runs: int = 0
    """Those of them that have not ended."""
    failures: FailureCount = field(default_factory=FailureCount)
    took: tuple[float, ...] = ()
    """How long the latest runs took, in seconds."""
    epochs: int = 0
    """The last epoch that was given."""
    events: int = 0
    """The last event's number."""
    exhausted: str = ""
    """Why the sweep's own server gives no more runs; '': it may."""
    ends: SweepEnd | None = None

    def left_s(self, now: float) -> float:
        """Return how much time is left until the deadline, if there is one."""
        return inf if self.deadline is None else deadline_at(self.deadline, self.opened_at) - now


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolShare:
    """A fixed part of the count, performed by one launch after another, wherever they are."""

    share: str
    """As 2/4."""
    count: int
    started: int = 0
    """Distinct runs that its launches have begun; they stay its runs wherever they go on."""
    open_runs: int = 0
    """Those of them that have not ended."""
    none_finished: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNode:
    """One machine's supervisor, from its joining until it is gone."""

    epoch: int
    name: str
    mark: str
    workers: int
    heard_at: float
    number: int = 0
    """Its newest exchange that was heard."""
    granted: int = 0
    """New runs that it may have started in all."""
    used: int = 0
    """Those that it has started."""
    gone: bool = False
    reason: str = ""
    """Why it is gone."""
    share: str = ""
    """Whose runs alone it performs; '': anybody's."""

    @property
    def unstarted(self) -> int:
        """New runs that it may start still."""
        return self.granted - self.used


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRun:
    """A run that some node has started."""

    run_id: RunId
    place: RunStatus
    epoch: int | None
    """Whose it is; None: nobody's."""
    attempt: int
    """The last that has started; of a run that waits or is handed, the next one."""
    on: bool
    """That attempt has not ended."""
    since: float
    """When it came to its place, or its attempt started."""
    parameters: Parameters
    spent_s: float = 0.0
    deaths: int = 0
    preemptions: int = 0
    seed: int | None = None
    slot: int | None = None
    outcome: Outcome | None = None
    share: str = ""
    """Whose run it is; '': that of no share."""

    def pooled(self) -> PooledRun:
        """Return it as it travels to the node that is to run it again."""
        return PooledRun(
            *(self.run_id, self.parameters, self.attempt, self.spent_s, self.deaths, self.preemptions),
            self.seed,
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, and since when silence has been counted fairly: the server was up, and its clock undisturbed."""

    now: float
    fair_from: float = 0.0

    def silent_s(self, heard_at: float) -> float:
        """Return for how long nothing was heard of somebody who could have been heard."""
        heard_at = heard_at if heard_at <= self.now else 0.0  # before the clock was set back
        return self.now - max(heard_at, min(self.fair_from, self.now))


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
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
        self.before = PoolSnapshot(pool, dict(self.nodes), dict(self.runs), dict(self.shares))
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

    def runs_of(self, epoch: int, place: RunStatus) -> list[PoolRun]:
        """Return a node's runs at that place, oldest first."""
        return self._sorted(run for run in self.runs.values() if (run.epoch, run.place) == (epoch, place))

    def waiting(self, share: str) -> list[PoolRun]:
        """Return the runs that wait for a node that performs that share, oldest first; '': for any."""
        waiting = (run for run in self.runs.values() if run.place is RunStatus.WAITING)
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

    def end(self, ends: SweepEnd, kind: str = "stopped") -> None:
        """Let all nodes leave."""
        self.change_pool(ends=ends)
        self.tell(kind, None, {"name": "", **as_json(ends)})
