"""A sweep's pool as the rules know it: frozen values, of which `store` makes rows.

waiting ─▶ handed ─▶ running ─▶ ended
   ▲          │         │
   └──────────┴─────────┘  given back, handed on, or its node is gone
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from parallel_hpo.config.durations import deadline_at
from parallel_hpo.policy import FailureCount, FailureLimits
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.protocol.pool import PooledRun
from parallel_hpo.words import Outcome, Parameters, RunId


class RunPlace(StrEnum):
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
    ends: Ending | None = None

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
    place: RunPlace
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
