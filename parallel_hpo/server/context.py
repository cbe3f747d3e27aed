"""The context of request handlers: database, engines, clock, keys, files, nodes' notices; and the caller."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final

from parallel_hpo.server.engines import Engines, Suggestion
from parallel_hpo.server.rules.heartbeat import SilenceTimeouts
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.listing import ListingCache

DEFAULT_ENTITY: Final = "local"
DEFAULT_PROJECT: Final = "uncategorized"
"""W&B's own name for the project of runs that name none."""

UNLABELLED: Final = ""
"""The label of a caller with the master key."""
VIEWER: Final = "viewer"
"""The label of a browser, which may only read pages."""


MAX_NOTICES: Final = 5000
"""Maximum number of notices kept per sweep; older ones are dropped."""
BYTES_PER_S: Final = 64 * 1024
"""Maximum rate of one node's notices, in bytes per second; enough for a screen, and for a thousand nodes."""
MAX_NOTICE_BYTES: Final = 16 * 1024
"""Maximum size of a notice in bytes; a longer one is dropped, since all must fit into memory."""
BURST_S: Final = 10.0
"""Time for which a silent node saves up its unused rate, in seconds."""

Notice = tuple[int, int, Mapping[str, Any]]
"""(number, epoch, notice)."""


@dataclass
class _NodeBudget:
    """The bytes that a node may send, and when they were counted."""

    room: float
    at: float


@dataclass
class _SweepNotices:
    """A sweep's notices, newest last."""

    number: int = 0
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=MAX_NOTICES))
    budgets: dict[int, _NodeBudget] = field(default_factory=dict)


class NoticeBuffer:
    """Keeps nodes' notices until the coordinator has read them; in memory, bounded, thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_sweep: dict[str, _SweepNotices] = {}

    def post(self, sweep: str, epoch: int, notices: Sequence[Mapping[str, Any]], now: float) -> None:
        """Add a node's notices as far as its rate allows; `now` in seconds."""
        if not notices:
            return
        with self._lock:
            stored = self._by_sweep.setdefault(sweep, _SweepNotices())
            budget = stored.budgets.setdefault(epoch, _NodeBudget(BYTES_PER_S * BURST_S, now))
            gained = max(0.0, now - budget.at) * BYTES_PER_S
            budget.room, budget.at = min(BYTES_PER_S * BURST_S, budget.room + gained), now
            for notice in notices:
                size = len(json.dumps(notice))
                if size <= min(budget.room, MAX_NOTICE_BYTES):
                    budget.room -= size
                    stored.number += 1
                    stored.notices.append((stored.number, epoch, notice))

    def after(self, sweep: str, number: int) -> tuple[tuple[Notice, ...], int]:
        """Return a sweep's notices after a number, and the last number; all, for an unknown number."""
        with self._lock:
            stored = self._by_sweep.get(sweep)
            if stored is None:
                return (), 0
            since = number if number <= stored.number else 0
            return tuple(notice for notice in stored.notices if notice[0] > since), stored.number

    def forget(self, sweep: str) -> None:
        """Drop a sweep's notices."""
        with self._lock:
            self._by_sweep.pop(sweep, None)


@dataclass(frozen=True, slots=True)
class AppContext:
    """The dependencies of the server's logic; tests pass other clocks and ids."""

    database: Database
    files: Path
    master_key: str = field(repr=False)
    clock: Callable[[], float]
    """Seconds since the epoch."""
    new_id: Callable[[], str]
    """Returns a new id in W&B's form: 8 lower-case letters and digits."""
    new_seed: Callable[[], int]
    clock_set_at: Callable[[], float] = lambda: 0.0
    """Returns when `clock` was last set, in its own time; silence counts from then on at the earliest."""
    up_since: float = 0.0
    """When this server's process began to listen, by `clock`."""
    timeouts: SilenceTimeouts = field(default_factory=SilenceTimeouts)
    engines: Engines = field(default_factory=Engines)
    listings: ListingCache = field(default_factory=ListingCache)
    sweeps_in: Path | None = None
    """The directory of this server's sweep folders on this machine; None: unknown."""
    notices: NoticeBuffer = field(default_factory=NoticeBuffer)
    """Notices from nodes, for the processes that watch a pool."""
    asked: Suggestion | None = None
    """The model's answer for this request."""

    def seen_by(self, caller: Caller) -> AppContext:
        """Return the context limited to the caller's sweep, if its key is a sweep's."""
        if caller.sweep is None:
            return self
        return replace(self, database=self.database.of_sweep(caller.sweep))


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request, and the URL by which it reached the server."""

    label: str
    is_master: bool
    base_url: str
    sweep: str | None = None
    """The only sweep that its key is valid for; None: all."""
    node: int | None = None
    """The epoch of the node that it belongs to; None: no node."""
    is_supervisor: bool = False
    """Whether its key is a sweep's own or a node's: then it has the master key's rights for `sweep`."""
