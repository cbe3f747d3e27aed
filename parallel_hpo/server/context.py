"""The context of request handlers: database, engines, clock, keys, folder of files; and the caller."""

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
"""The label of a caller with the master key."""
VIEWER: Final = "viewer"
"""The label of a browser, which may only read pages."""


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
