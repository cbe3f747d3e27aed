"""The state of a sweep's pool: frozen values, stored by `server/store/pool.py`, and a draft of changes.

waiting ─▶ assigned ─▶ running ─▶ ended
   ▲           │          │
   └───────────┴──────────┘  released, requeued, or its node is gone
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import PooledRun, PoolEvent, as_json
from parallel_hpo.core.types import Outcome, RunId, changed
from parallel_hpo.core.values import deadline_at
from parallel_hpo.count.policy import FailureCount, FailureLimits, runs_within


class RunStatus(StrEnum):
    """States of a run in a pool."""

    WAITING = "waiting"
    """Requeued, for any node."""
    ASSIGNED = "handed"
    """Assigned to a node to run again, not started."""
    RUNNING = "running"
    """Started by a node, which also keeps it between two attempts."""
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The shared count of a sweep on many machines."""

    is_local: bool
    """Whether the sweep is on the same server."""
    count: int | None
    node_timeout_s: float
    has_coordinator: bool
    limits: FailureLimits = field(default_factory=FailureLimits)
    sweep_timeout_s: float | None = None
    deadline: str | None = None
    """As the user wrote it; a duration counts from `opened_at`. None also without a coordinator."""
    opened_at: float
    """Time of the last opening; times are seconds since the epoch."""
    coordinator_seen_at: float
    """Time of the coordinator's last request."""
    started: int = 0
    """Number of distinct runs that have entered `main`."""
    open_runs: int = 0
    """Number of started runs that have not ended."""
    failures: FailureCount = field(default_factory=FailureCount)
    took: tuple[float, ...] = ()
    """Durations of the latest runs, in seconds."""
    epochs: int = 0
    """The last epoch given to a node."""
    events: int = 0
    """The last event's number."""
    exhausted: str = ""
    """Why the sweep's own server gives no more runs; '' while it may."""
    ends: SweepEnd | None = None

    def left_s(self, now: float) -> float:
        """Return the seconds left until the deadline; infinity without one."""
        return inf if self.deadline is None else deadline_at(self.deadline, self.opened_at) - now


@dataclass(frozen=True, kw_only=True)
class PoolNode:
    """One machine's session, from its join until it is gone."""

    epoch: int
    name: str
    mark: str
    workers: int
    heard_at: float
    number: int = 0
    """Number of its newest exchange received."""
    granted: int = 0
    """Number of new runs that it may start in total."""
    used: int = 0
    """Number of new runs that it has started."""
    gone: bool = False
    reason: str = ""
    """Why it is gone."""
    deadline_at: float | None = None
    """When its own runs must have ended, beside the pool's deadline; None: no such time."""

    @property
    def unstarted(self) -> int:
        """Number of new runs that it may still start."""
        return self.granted - self.used


@dataclass(frozen=True, kw_only=True)
class PoolRun(PooledRun):
    """A run that some node has started; `attempt` is the last one started, or the next one if it waits."""

    status: RunStatus
    epoch: int | None
    """Epoch of its node; None: no node."""
    on: bool
    """Whether that attempt has not ended."""
    since: float
    """Time at which its status changed or its attempt started."""
    slot: int | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """The present time, and the time since which the server was up and its clock undisturbed."""

    now: float
    fair_from: float = 0.0

    def silent_s(self, heard_at: float) -> float:
        """Return the seconds without a message from a sender that could have reached the server."""
        heard_at = heard_at if heard_at <= self.now else 0.0  # before the clock was set back
        return self.now - max(heard_at, min(self.fair_from, self.now))


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """The state before a change."""

    pool: Pool
    nodes: Mapping[int, PoolNode]
    runs: Mapping[RunId, PoolRun]


class PoolDraft:
    """A pool during one change, in memory: the state before, the state now, and the new events.

    It has only the runs that the change may concern; counts over all runs are in `pool`. The caller saves it.
    """

    def __init__(
        self,
        pool: Pool,
        nodes: Iterable[PoolNode],
        runs: Iterable[PoolRun],
        moment: Moment,
    ) -> None:
        """`nodes` are all living ones and the sender."""
        self.pool = pool
        self.nodes = {node.epoch: node for node in nodes}
        self.runs = {run.run_id: run for run in runs}
        self.before = PoolSnapshot(pool, dict(self.nodes), dict(self.runs))
        self.moment = moment
        self.events: list[PoolEvent] = []
        self.dead_marks: list[str] = []
        """Owner ids of sessions that are gone by this change."""

    @property
    def now(self) -> float:
        return self.moment.now

    def living(self) -> list[PoolNode]:
        """Return the nodes that have a lease."""
        return [node for node in self.nodes.values() if not node.gone]

    @property
    def left_s(self) -> float:
        """Seconds left until the deadline."""
        return self.pool.left_s(self.now)

    @property
    def has_deadline(self) -> bool:
        """Whether durations of runs matter to the pool or to one of its nodes."""
        return self.pool.deadline is not None or any(node.deadline_at is not None for node in self.living())

    def left_at(self, node: PoolNode) -> float:
        """Return the seconds left on a node until the deadline, its own or the pool's."""
        return min(self.left_s, inf if node.deadline_at is None else node.deadline_at - self.now)

    def runs_in_time(self, left_s: float) -> int | None:
        """Return how many runs in a row would end within `left_s`; None without a deadline."""
        return None if left_s == inf else runs_within(self.pool.took, left_s)

    def is_too_late(self, node: PoolNode | None = None) -> bool:
        """Return whether a run that starts now, on that node or on any, would not end before the deadline."""
        return self.runs_in_time(self.left_s if node is None else self.left_at(node)) == 0

    def unstarted(self) -> int:
        """Return how many new runs all nodes may still start."""
        return sum(node.unstarted for node in self.living())

    def left_for(self, node: PoolNode) -> int | None:
        """Return the maximum of unstarted new runs of a node; None: no limit."""
        if self.pool.count is None:
            return None
        return self.pool.count - self.pool.started - self.unstarted() + node.unstarted

    def runs_of(self, epoch: int, status: RunStatus) -> list[PoolRun]:
        """Return a node's runs of that status, oldest first."""
        return self._sorted(run for run in self.runs.values() if (run.epoch, run.status) == (epoch, status))

    def waiting(self) -> list[PoolRun]:
        """Return the waiting runs, oldest first."""
        return self._sorted(run for run in self.runs.values() if run.status is RunStatus.WAITING)

    def _sorted(self, runs: Iterable[PoolRun]) -> list[PoolRun]:
        return sorted(runs, key=lambda run: (run.since, run.run_id))

    def change_pool(self, **changes: Any) -> None:
        self.pool = changed(self.pool, **changes)

    def change_node(self, epoch: int, **changes: Any) -> None:
        self.nodes[epoch] = changed(self.nodes[epoch], **changes)

    def change_run(self, run_id: RunId, **changes: Any) -> None:
        self.runs[run_id] = changed(self.runs[run_id], **changes)

    def add_event(self, kind: str, epoch: int | None, body: Mapping[str, Any]) -> None:
        number = self.pool.events + 1
        self.change_pool(events=number)
        self.events.append(PoolEvent(number, self.now, epoch, kind, body))

    def end(self, ends: SweepEnd, kind: str = "stopped") -> None:
        """End the sweep on all nodes."""
        self.change_pool(ends=ends)
        self.add_event(kind, None, {"name": "", **as_json(ends)})
