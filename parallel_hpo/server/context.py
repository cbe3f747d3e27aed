"""What a request handler works with: the database, the engines, the clock, the keys, the folder of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from parallel_hpo.server.engines import Engines, Suggestion
from parallel_hpo.server.notice_buffer import NoticeBuffer
from parallel_hpo.server.rules.heartbeat import SilenceTimeouts
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.listing import ListingCache

DEFAULT_ENTITY: Final = "local"
DEFAULT_PROJECT: Final = "uncategorized"
"""W&B's own name for the project of runs that name none."""

STRANGER: Final = ""
"""The label of a caller that came with the master key."""
VIEWER: Final = "viewer"
"""The label of a person's browser, which may look at pages and do nothing else."""


@dataclass(frozen=True, slots=True)
class AppContext:
    """The outside of the server's logic; tests give it other clocks and ids."""

    database: Database
    files: Path
    master_key: str = field(repr=False)
    clock: Callable[[], float]
    """Seconds since the epoch."""
    new_id: Callable[[], str]
    """A fresh id as W&B's: 8 lower-case letters and digits."""
    new_seed: Callable[[], int]
    clock_set_at: Callable[[], float] = lambda: 0.0
    """When `clock` was last set, by its own reckoning: silence is counted from then at the earliest."""
    up_since: float = 0.0
    """When this server's process began to listen, by the same reckoning."""
    patience: SilenceTimeouts = field(default_factory=SilenceTimeouts)
    engines: Engines = field(default_factory=Engines)
    walks: ListingCache = field(default_factory=ListingCache)
    sweeps_in: Path | None = None
    """Where supervisors of this machine keep the folders of sweeps that are here; None: not known."""
    notices: NoticeBuffer = field(default_factory=NoticeBuffer)
    """What nodes of pools have to say to whoever watches."""
    asked: Suggestion | None = None
    """What a sweep's model was asked for the request at hand."""

    def seen_by(self, caller: Caller) -> AppContext:
        """Return what a caller may know and change of it: where its key is one sweep's, no other sweep."""
        if caller.sweep is None:
            return self
        return replace(self, database=self.database.of_sweep(caller.sweep))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and under which address it reached the server."""

    label: str
    is_master: bool
    base_url: str
    sweep: str | None = None
    """The sweep that its key is good for; None: all."""
    node: int | None = None
    """The epoch of the node whose key it is, or whose worker's; None: no node's."""
    is_supervisor: bool = False
    """Its key is a sweep's own, or a node's: it may do for `sweep` what the master key may for all."""
