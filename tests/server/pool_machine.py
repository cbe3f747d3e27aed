"""A machine that works for a pool, as it really is, whatever the pool thinks of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import Join, PooledEnd, PooledStart
from tests.server.pooling import machine, stopped


@dataclass
class Machine:
    """A node as it really is; `epoch` 0: it takes no part."""

    name: str
    mark: str
    alive: bool = True
    frozen: bool = False
    cut: bool = False
    leaving: bool = False
    epoch: int = 0
    previous: int = 0
    number: int = 0
    heard_at: float = 0.0
    granted: int = 0
    used: int = 0
    ends_known: SweepEnd | None = None
    again: dict[str, int] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)
    pending: PooledStart | None = None
    inside: dict[str, int] = field(default_factory=dict)
    """The runs that are inside `main`, and their attempts."""
    untold: list[PooledEnd] = field(default_factory=list)

    @property
    def works(self) -> bool:
        return self.alive and not self.frozen and self.epoch > 0

    def drop_all(self) -> None:
        """Kill all that runs, and forget it."""
        for held in (self.again, self.retries, self.inside):
            held.clear()
        self.pending, self.untold, self.ends_known = None, [], None
        self.granted = self.used = self.number = 0
        self.previous, self.epoch, self.leaving = self.epoch or self.previous, 0, False

    def interrupt(self) -> None:
        """Stop all that runs, so that others go on with it."""
        self.untold += [stopped(run, attempt) for run, attempt in self.inside.items()]
        self.untold += [stopped(run, None) for run in self.retries]
        if self.pending is not None:
            self.untold.append(stopped(self.pending.run.run_id, self.pending.run.attempt))
        self.inside.clear()
        self.retries.clear()
        self.pending, self.leaving = None, True

    def joining(self) -> Join:
        return replace(machine(self.name, self.mark), previous=self.previous)
