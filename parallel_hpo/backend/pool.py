"""A sweep's pool as nodes and heads ask it; whoever asks decides how long to wait and when to ask again."""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.backend.door import ServerAddress
from parallel_hpo.errors import ConfigError, PoolOverError, ServerRefusedError
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.protocol.pool import (
    POOL,
    Exchange,
    Granted,
    Join,
    Joined,
    NewPool,
    NodeLost,
    PoolNews,
    PoolState,
)
from parallel_hpo.protocol.wire import as_json, read

ASK_LIMIT_S: Final = 5.0
"""An answer that takes longer is given up: the same may be told again."""
_NOT_THERE: Final = 404
_CONFLICT: Final = 409


class PoolDoor:
    """Asks one pool with one key, once for each call and from any thread.

    All methods raise ServerAwayError where no answer comes within `limit_s` seconds, and
    ServerRefusedError where the answer is no, as to a key that is not good for it.
    """

    def __init__(self, url: str, key: str, sweep: str, *, limit_s: float = ASK_LIMIT_S) -> None:
        """`url` is the server's; `key` its master's, the sweep's own, or the node's that joined."""
        self._server = ServerAddress(url, key)
        self._pool = POOL.format(sweep=sweep)
        self._limit_s = limit_s

    def create(self, wanted: NewPool) -> PoolState:
        """Create the pool, or open it again, and return how far it is."""
        return read(PoolState, self._ask("POST", "", wanted))

    def facts(self) -> NewPool | None:
        """Return the pool as it was asked for; None: there is none."""
        try:
            return read(NewPool, self._ask("GET", ""))
        except ServerRefusedError as error:
            if error.status == _NOT_THERE:
                return None
            raise

    def join(self, wants: Join) -> Joined:
        """Take part.

        Raises:
            ConfigError: this machine's software is another than the head's.
            PoolOverError: the sweep is over, or about to be.
        """
        try:
            return read(Joined, self._ask("POST", "/join", wants))
        except ServerRefusedError as error:
            if error.status != _CONFLICT:
                raise
            why = str(error.said.get("error", error))
            if "ends" in error.said:
                ends = read(Ending, error.said["ends"])
                raise PoolOverError(why, ends_with=ends.exit_code) from None
            raise ConfigError(why) from None

    def exchange(self, told: Exchange) -> Granted:
        """Tell what there is to tell, and return what may be done."""
        return read(Granted, self._ask("POST", "/exchange", told))

    def leave(self, epoch: int, reason: str) -> None:
        """Say that nothing of the node runs any more."""
        self._send("/leave", {"epoch": epoch, "reason": reason})

    def stop(self, ends: Ending) -> None:
        """Let all nodes leave."""
        self._ask("POST", "/stop", ends)

    def lost(self, lost: NodeLost) -> None:
        """Pass on what an engine says of a node's task."""
        self._ask("POST", "/lost", lost)

    def news(self, event: int, notice: int) -> PoolNews:
        """Return the events and notices after these numbers, and show that the head is there."""
        return read(PoolNews, self._ask("GET", f"/news?event={event}&notice={notice}"))

    def _ask(self, method: str, verb: str, told: Any = None) -> Any:
        body = None if told is None else as_json(told)
        return self._server.ask(method, f"{self._pool}{verb}", body, limit_s=self._limit_s)

    def _send(self, verb: str, body: Any) -> None:
        self._server.ask("POST", f"{self._pool}{verb}", body, limit_s=self._limit_s)
