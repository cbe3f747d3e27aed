"""The line to a sweep's pool: a thread that asks for news and passes on what the pool is to be told.

Whoever watches never waits for the network: answers come by `post`, and what can't be told now is told
once the server is there again.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from parallel_hpo.core.errors import BackendError, ServerRefusedError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import AT_ONCE, NewPool, NodeLost, PoolNews

ASK_EVERY_S: Final = 1.0
AT_THE_END: Final = 4
"""So many times as often it is asked once all are to leave."""


class PoolSource(Protocol):
    """What a head asks of a pool; each raises BackendError where it refuses or can't be reached."""

    def facts(self) -> NewPool | None: ...
    def create(self, pool: NewPool) -> object: ...
    def news(self, event: int, notice: int) -> PoolNews: ...
    def stop(self, ends: SweepEnd) -> None: ...
    def lost(self, lost: NodeLost) -> None: ...


Answer = PoolNews | BackendError
Heard = Callable[[], tuple[int, int]]
"""Returns the numbers of the last event and the last notice that have been heeded."""


class PoolWatcher:
    """Asks and tells one pool, until it is closed; its methods return at once."""

    def __init__(
        self,
        door: PoolSource,
        heard: Heard,
        post: Callable[[Answer], None],
        *,
        ask_every_s: float = ASK_EVERY_S,
    ) -> None:
        self._door = door
        self._heard = heard
        self._post = post
        self._ask_every_s = ask_every_s
        self._to_tell: deque[Callable[[PoolSource], None]] = deque()
        self._heeded: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._something = threading.Event()
        self._closed = False

    def open(self) -> None:
        """Begin to ask."""
        threading.Thread(target=self._work, name="parallel_hpo-pool", daemon=True).start()

    def stop(self, ends: SweepEnd) -> None:
        """Let the nodes leave."""
        self._tell(lambda door: door.stop(ends))

    def lost(self, lost: NodeLost) -> None:
        """Pass on what the engine says of a node."""
        self._tell(lambda door: door.lost(lost))

    def heeded(self) -> None:
        """The last answer has been heeded: the next may be asked for."""
        self._heeded.put(None)

    def close(self) -> None:
        """Ask and tell no more."""
        self._closed = True
        self._something.set()
        self._heeded.put(None)

    def _tell(self, call: Callable[[PoolSource], None]) -> None:
        self._to_tell.append(call)
        self._something.set()

    # --- the thread -------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closed:
            self._something.clear()
            answer = self._ask()
            self._post(answer)
            self._heeded.get()
            if isinstance(answer, PoolNews) and len(answer.events) >= AT_ONCE:
                continue
            ends = isinstance(answer, PoolNews) and answer.ends is not None
            self._something.wait(self._ask_every_s / (AT_THE_END if ends else 1))

    def _ask(self) -> Answer:
        try:
            while self._to_tell:
                with suppress(ServerRefusedError):  # what `news` says of it counts
                    self._to_tell[0](self._door)
                self._to_tell.popleft()
            return self._door.news(*self._heard())
        except BackendError as error:
            return error
