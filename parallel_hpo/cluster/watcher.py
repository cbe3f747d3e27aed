"""Follows a sweep's pool: a thread that asks for news, and the copy of its events to the ledger and observer.

The loop never waits for the network: answers come by `post`, and requests that fail are repeated. Each event
is copied once: the log knows the last one's number. Notices may be lost.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol

from parallel_hpo.core.errors import BackendError, ServerRefusedError
from parallel_hpo.core.messages import MissingMetric, SweepEnd
from parallel_hpo.core.notices import (
    MemoryUsed,
    Message,
    Notice,
    Observer,
    OutputLine,
    RunBegan,
    RunOver,
    RunProgressed,
    WorkerChanged,
    WorkerNamed,
    from_json,
)
from parallel_hpo.core.pool_messages import (
    AT_ONCE,
    NewPool,
    NodeLost,
    PooledEnd,
    PooledStart,
    PoolEvent,
    PoolNews,
    read,
)
from parallel_hpo.core.types import Slot, SlotState
from parallel_hpo.records.ledger import Ledger

ASK_EVERY_S: Final = 1.0
"""Interval between requests for news, in seconds."""
FASTER_AT_THE_END: Final = 4
"""Factor by which requests are more frequent once all nodes must leave."""


class PoolSource(Protocol):
    """A coordinator's requests to a pool; each raises BackendError if refused or unreachable."""

    def facts(self) -> NewPool | None: ...
    def create(self, pool: NewPool) -> object: ...
    def news(self, event: int, notice: int) -> PoolNews: ...
    def stop(self, ends: SweepEnd) -> None: ...
    def lost(self, lost: NodeLost) -> None: ...


Answer = PoolNews | BackendError
LastHandled = Callable[[], tuple[int, int]]
"""Return the numbers of the last event and the last notice that were handled."""


class PoolWatcher:
    """Sends requests to one pool until it is closed; its methods don't wait."""

    def __init__(
        self,
        pool: PoolSource,
        last_handled: LastHandled,
        post: Callable[[Answer], None],
        *,
        ask_every_s: float = ASK_EVERY_S,
    ) -> None:
        self._pool = pool
        self._last_handled = last_handled
        self._post = post
        self._ask_every_s = ask_every_s
        self._requests: deque[Callable[[PoolSource], None]] = deque()
        self._handled: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._something = threading.Event()
        self._closed = False

    def open(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, name="parallel_hpo-pool", daemon=True).start()

    def stop(self, ends: SweepEnd) -> None:
        """Make the nodes leave."""
        self._request(lambda pool: pool.stop(ends))

    def lost(self, lost: NodeLost) -> None:
        """Pass on an engine's report on a node."""
        self._request(lambda pool: pool.lost(lost))

    def handled(self) -> None:
        """Confirm that the last answer was handled, so that the next request may be sent."""
        self._handled.put(None)

    def close(self) -> None:
        """Stop the thread."""
        self._closed = True
        self._something.set()
        self._handled.put(None)

    def _request(self, call: Callable[[PoolSource], None]) -> None:
        self._requests.append(call)
        self._something.set()

    # --- the thread -------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closed:
            self._something.clear()
            answer = self._ask()
            self._post(answer)
            self._handled.get()
            if isinstance(answer, PoolNews) and len(answer.events) >= AT_ONCE:
                continue
            ends = isinstance(answer, PoolNews) and answer.ends is not None
            self._something.wait(self._ask_every_s / (FASTER_AT_THE_END if ends else 1))

    def _ask(self) -> Answer:
        try:
            while self._requests:
                with suppress(ServerRefusedError):  # `news` has the pool's state
                    self._requests[0](self._pool)
                self._requests.popleft()
            return self._pool.news(*self._last_handled())
        except BackendError as error:
            return error


LAST_EVENT: Final = "event"
"""Fact with the number of the last event, in ledgers before the log."""
ENDS: Final = ("attempt_ended", "ended", "handed_on")
OF_WORKERS: Final = (MemoryUsed, OutputLine, RunProgressed, WorkerChanged)


class EventCopier:
    """Copies a pool's events to the ledger, and passes them and notices to the observer; for one thread."""

    def __init__(self, ledger: Ledger, observer: Observer) -> None:
        self._ledger = ledger
        self._observer = observer
        self._unsent: list[Notice] = []
        self.last_event = max(ledger.last_event()[0], ledger.facts.get(LAST_EVENT, 0))
        self.last_notice = 0
        self._joined: dict[str, tuple[int, str]] = {}
        """Last epoch and name of each session, by its owner id."""
        self._named: set[Slot] = set()

    def node_of(self, token: str) -> tuple[int, str] | None:
        """Return the epoch and name of the node started with a token; None if it has not joined."""
        return next((node for mark, node in self._joined.items() if mark.endswith(f"_{token}")), None)

    def name_workers(self) -> None:
        """Send the names of the workers of earlier launches to the observer."""
        for slot, (machine, number) in self._ledger.places().items():
            self._named.add(slot)
            self._observer(WorkerNamed(slot, f"{machine}/w{number}"))

    def take(self, news: PoolNews) -> None:
        """Log new events, then send them and the notices to the observer.

        Raises:
            LedgerError: the events can't be written; ask for them again.
        """
        fresh = [event for event in news.events if event.number > self.last_event]
        self._unsent.clear()
        if fresh:
            self._ledger.append(fresh, durable=False)  # if lost, they are copied again
            self.last_event = fresh[-1].number
        for event in fresh:
            self._announce(event)
        for _, epoch, body in news.notices:
            self._pass_on(epoch, body)
        self.last_notice = news.notice_number
        for notice in self._unsent:
            self._observer(notice)

    # --- events ------------------------------------------------------------------------

    def _announce(self, event: PoolEvent) -> None:
        body = event.body
        match event.kind:
            case "joined" if event.epoch is not None:
                self._joined[str(body.get("mark", ""))] = event.epoch, body["name"]
                self._send(
                    Message(f"machine {body['name']} has joined with {body.get('workers', '?')} workers")
                )
            case "left":
                self._send(
                    Message(f"machine {self._machine(event.epoch)} has left: {body.get('reason', '')}")
                )
            case "started":
                self._announce_start(event, read(PooledStart, body))
            case kind if kind in ENDS:
                self._announce_end(read(PooledEnd, body), again=kind != "ended")
            case "refused":
                self._send(Message(str(body.get("reason", "")), warning=True))

    def _announce_start(self, event: PoolEvent, start: PooledStart) -> None:
        slot, run = self._slot(event.epoch, start.slot), start.run
        self._send(RunBegan(slot, run.run_id, run.attempt, run.parameters, start.device or ""))

    def _announce_end(self, end: PooledEnd, *, again: bool) -> None:
        row = self._ledger.run(end.run_id)
        if row is not None and end.attempt is not None:
            self._send(
                RunOver(
                    slot=row.slot,
                    run_id=end.run_id,
                    attempt=end.attempt,
                    outcome=end.outcome,
                    reason=end.reason,
                    value=end.value,
                    duration_s=end.duration_s,
                    again=again,
                )
            )

    # --- notices -----------------------------------------------------------------------

    def _pass_on(self, epoch: int, body: Mapping[str, Any]) -> None:
        if not self._ledger.machine(epoch):
            return  # its join is yet to come
        notice = from_json(body)
        if isinstance(notice, OF_WORKERS):
            slot = self._slot(epoch, notice.slot)
            if isinstance(notice, WorkerChanged) and notice.state is SlotState.BACKOFF:
                self._ledger.record_restart(slot)
            self._send(replace(notice, slot=slot))
        elif isinstance(notice, Message):
            self._send(replace(notice, text=f"{self._machine(epoch)}: {notice.text}"))
        elif isinstance(notice, MissingMetric):
            self._send(notice)

    def _slot(self, epoch: int | None, number: int) -> Slot:
        slot = self._ledger.slot_at(epoch, number)
        if slot not in self._named:
            self._named.add(slot)
            self._send(WorkerNamed(slot, f"{self._machine(epoch)}/w{number}"))
        return slot

    def _machine(self, epoch: int | None) -> str:
        return self._ledger.machine(epoch) or f"node {epoch}"

    def _send(self, notice: Notice) -> None:
        self._unsent.append(notice)
