"""A server of ours that somebody else has started, reached with the key that we were given.

master key   a worker gets one of its own, as from the embedded server
node's key   the same, good for as long as the node's epoch is
other keys   workers share it
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from parallel_hpo import keys, tickets
from parallel_hpo.backend.door import AWAY_LIMIT_S, Door
from parallel_hpo.backend.ours import ServerOfOurs
from parallel_hpo.backend.pool import PoolDoor
from parallel_hpo.words import SweepPath


class RemoteBackend(ServerOfOurs):
    """A server of ours, elsewhere; a Backend."""

    name = "wandb"
    """As in the configuration: the server that the client is logged in to."""

    def __init__(
        self,
        url: str,
        key: str,
        directory: Path,
        environment: Mapping[str, str],
        *,
        away_limit_s: float = AWAY_LIMIT_S,
    ) -> None:
        self._key = key
        self._closing = threading.Event()
        door = Door(key, self._closing, lambda: "", away_limit_s=away_limit_s, url=url)
        super().__init__(door, directory, environment)
        if keys.may_be_master_key(key):
            self._ticket_key = tickets.ticket_key(key)

    def open(
        self,
        on_lost: Callable[[str], None] = lambda why: None,
        on_trouble: Callable[[str], None] = lambda why: None,
    ) -> None:
        """Nothing is to be started; a server that is away is waited for."""

    def close(self) -> None:
        """Nothing was started; what still waits for an answer ends."""
        self._closing.set()

    def pool_of(self, path: SweepPath) -> PoolDoor:
        """Return the door of a sweep's pool there."""
        return PoolDoor(self._door.url, self._key, path.sweep_id)

    def _key_of(self, label: str, sweep: str | None) -> str:
        return keys.key_below(self._key, label, sweep)
