"""Follows a sweep's pool: a thread that asks for news, and the copy of its events to the ledger and observer.

The loop never waits for the network: answers come by `post`, and requests that fail are repeated. The ledger
is written from events only, each once: it stores the last one's number. Notices may be lost.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Final, Protocol

from parallel_hpo.core.errors import BackendError, ServerRefusedError
from parallel_hpo.core.messages import AttemptEnd, MissingMetric, SweepEnd
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
    machine_folder,
    read,
)
from parallel_hpo.core.types import RunId, Slot, SlotState
from parallel_hpo.records.ledger import Ledger

ASK_EVERY_S: Final = 1.0
"""Interval between requests for news, in seconds."""
AT_THE_END: Final = 4
"""Factor by which requests are more frequent once all nodes must leave."""


class PoolSource(Protocol):
    """A coordinator's requests to a pool; each raises BackendError if refused or unreachable."""

    def facts(self) -> NewPool | None: ...
    def create(self, pool: NewPool) -> object: ...
    def news(self, event: int, notice: int) -> PoolNews: ...
    def stop(self, ends: SweepEnd) -> None: ...
    def lost(self, lost: NodeLost) -> None: ...


Answer = PoolNews | BackendError
Heard = Callable[[], tuple[int, int]]
"""Return the numbers of the last event and the last notice that were handled."""


class PoolWatcher:
    """Sends requests to one pool until it is closed; its methods don't wait."""

    def __init__(
        self,
        pool: PoolSource,
        heard: Heard,
        post: Callable[[Answer], None],
        *,
        ask_every_s: float = ASK_EVERY_S,
    ) -> None:
        self._pool = pool
        self._heard = heard
        self._post = post
        self._ask_every_s = ask_every_s
        self._to_tell: deque[Callable[[PoolSource], None]] = deque()
        self._heeded: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._something = threading.Event()
        self._closed = False

    def open(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, name="parallel_hpo-pool", daemon=True).start()

    def stop(self, ends: SweepEnd) -> None:
        """Make the nodes leave."""
        self._tell(lambda pool: pool.stop(ends))

    def lost(self, lost: NodeLost) -> None:
        """Pass on an engine's report on a node."""
        self._tell(lambda pool: pool.lost(lost))

    def heeded(self) -> None:
        """Confirm that the last answer was handled, so that the next request may be sent."""
        self._heeded.put(None)

    def close(self) -> None:
        """Stop the thread."""
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
                with suppress(ServerRefusedError):  # `news` has the pool's state
                    self._to_tell[0](self._pool)
                self._to_tell.popleft()
            return self._pool.news(*self._heard())
        except BackendError as error:
            return error


class LedgerCopy(Ledger):
    """The ledger of a sweep on many machines; raises what `Ledger` raises.

    Each worker of each machine has a slot of its own, and keeps it when the machine comes back by its name.
    """

    _inside = False
    """Whether a transaction is open."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write everything within the block in one transaction; if lost, it is copied from the pool again."""
        with super()._written(synchronous="NORMAL"):
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def record_machine(self, epoch: int, name: str, folder: str) -> None:
        """Record that a machine has joined, for the first time or again."""
        with self._written():
            self._db.execute(
                "INSERT INTO machines (epoch, name, folder) VALUES (?, ?, ?)", (epoch, name, folder)
            )

    def record_departure(self, epoch: int, how: str) -> None:
        """Record how a machine has left, in words."""
        with self._written():
            self._db.execute("UPDATE machines SET departure = ? WHERE epoch = ?", (how, epoch))

    def machine(self, epoch: int) -> str | None:
        """Return the name of an epoch's machine; None if unknown."""
        return next((name for (name,) in self._query(_NAME, str(epoch))), None)

    def earlier_s(self, run_id: RunId, attempt: int | None) -> float:
        """Return the total duration of a run's attempts before this one, in seconds."""
        (found,) = self._query(_EARLIER, run_id, str(attempt or 0))
        return float(found[0])

    def slot_at(self, machine: str, number: int) -> tuple[Slot, bool]:
        """Return the slot of a machine's worker by its number there, and whether the slot is new."""
        with self._written():
            made = self._db.execute(
                "INSERT OR IGNORE INTO places (slot, machine, number)"
                " SELECT COALESCE(MAX(slot) + 1, 0), ?, ? FROM places",
                (machine, number),
            ).rowcount
            (slot,) = self._db.execute(
                "SELECT slot FROM places WHERE machine = ? AND number = ?", (machine, number)
            ).fetchone()
        return Slot(slot), made == 1

    def places(self) -> list[tuple[Slot, str, int]]:
        """Return each slot with its machine and its number there."""
        return [(Slot(slot), machine, number) for machine, number, slot in self._places()]

    @contextmanager
    def _written(self, synchronous: str = "FULL") -> Iterator[None]:
        if self._inside:
            yield
            return
        with super()._written(synchronous):
            yield


_NAME = "SELECT name FROM machines WHERE epoch = ?"
_EARLIER = "SELECT TOTAL(duration_s) FROM attempts WHERE run_id = ? AND attempt < ?"


LAST_EVENT: Final = "event"
"""Key of the ledger's fact with the number of the last event."""
ENDS: Final = ("attempt_ended", "ended", "handed_on")
OF_WORKERS: Final = (MemoryUsed, OutputLine, RunProgressed, WorkerChanged)


class EventCopier:
    """Copies a pool's events and notices to the ledger and the observer; for one thread."""

    def __init__(self, ledger: LedgerCopy, sweep: str, observer: Observer) -> None:
        self._ledger = ledger
        self._sweep = sweep
        self._observer = observer
        self._told: list[Notice] = []
        self.last_event: int = ledger.facts.get(LAST_EVENT, 0)
        self.last_notice = 0
        self._joined: dict[str, tuple[int, str]] = {}
        """Last epoch and name of each session, by its owner id."""
        self._slots: dict[tuple[str, int], Slot] = {}

    def node_of(self, token: str) -> tuple[int, str] | None:
        """Return the epoch and name of the node started with a token; None if it has not joined."""
        return next((node for mark, node in self._joined.items() if mark.endswith(f"_{token}")), None)

    def name_workers(self) -> None:
        """Send the names of the workers of earlier launches to the observer."""
        for slot, machine, number in self._ledger.places():
            self._observer(WorkerNamed(slot, f"{machine}/w{number}"))

    def take(self, news: PoolNews) -> None:
        """Write new events, then send them and the notices to the observer.

        Raises:
            LedgerError: the events can't be written; ask for them again.
        """
        fresh = [event for event in news.events if event.number > self.last_event]
        self._told.clear()
        if fresh:
            self._write_all(fresh)
            self.last_event = fresh[-1].number
        for _, epoch, body in news.notices:
            self._pass_on(epoch, body)
        self.last_notice = news.notice_number
        for notice in self._told:
            self._observer(notice)

    # --- events ------------------------------------------------------------------------

    def _write_all(self, events: Sequence[PoolEvent]) -> None:
        try:
            with self._ledger.together():
                for event in events:
                    self._write(event)
                self._ledger.record_facts({LAST_EVENT: events[-1].number})
        except BaseException:
            self._slots.clear()  # new slots may have been rolled back
            raise

    def _write(self, event: PoolEvent) -> None:
        match event.kind:
            case "joined" if event.epoch is not None:
                self._write_joined(event.epoch, event.body)
            case "left" if event.epoch is not None:
                self._write_left(event.epoch, event.body)
            case "started":
                self._write_start(event, read(PooledStart, event.body))
            case kind if kind in ENDS:
                self._write_end(event, read(PooledEnd, event.body))
            case "refused":
                self._tell(Message(str(event.body.get("reason", "")), warning=True))

    def _write_joined(self, epoch: int, body: Mapping[str, Any]) -> None:
        name, directory = str(body["name"]), str(body.get("directory", ""))
        folder = str(PurePosixPath(directory, self._sweep, machine_folder(name, epoch))) if directory else ""
        self._ledger.record_machine(epoch, name, folder)
        self._joined[str(body.get("mark", ""))] = epoch, name
        self._tell(Message(f"machine {name} has joined with {body.get('workers', '?')} workers"))

    def _write_left(self, epoch: int, body: Mapping[str, Any]) -> None:
        reason = str(body.get("reason", ""))
        self._ledger.record_departure(epoch, reason or "left")
        self._tell(Message(f"machine {self._machine(epoch)} has left: {reason}"))

    def _write_start(self, event: PoolEvent, start: PooledStart) -> None:
        slot, run = self._slot(event.epoch, start.slot), start.run
        self._ledger.record_spawn(slot, start.device, again=False)
        self._ledger.record_start(
            run.run_id,
            parameters=run.parameters,
            attempt=run.attempt,
            slot=slot,
            device=start.device,
            seed=run.seed,
            at=event.at,
        )
        self._tell(RunBegan(slot, run.run_id, run.attempt, run.parameters, start.device or ""))

    def _write_end(self, event: PoolEvent, told: PooledEnd) -> None:
        """Write an end; a requeued run counts as resumable until it starts again."""
        handed_on = event.kind == "handed_on"
        end = AttemptEnd.like(told, resumable=told.resumable or handed_on)
        if event.kind == "attempt_ended" and told.attempt is not None:
            self._ledger.record_attempt_end(told.run_id, told.attempt, end)
        else:
            earlier_s = 0.0 if handed_on else self._ledger.earlier_s(told.run_id, told.attempt)
            self._ledger.record_end(told.run_id, told.attempt, end, earlier_s=earlier_s)
        row = self._ledger.run(told.run_id)
        if row is not None and told.attempt is not None:
            self._tell(
                RunOver(
                    slot=row.slot,
                    run_id=told.run_id,
                    attempt=told.attempt,
                    outcome=end.outcome,
                    reason=end.reason,
                    value=end.value,
                    duration_s=end.duration_s,
                    again=event.kind != "ended",
                )
            )

    # --- notices -----------------------------------------------------------------------

    def _pass_on(self, epoch: int, body: Mapping[str, Any]) -> None:
        if self._ledger.machine(epoch) is None:
            return  # its join is yet to come
        notice = from_json(body)
        if isinstance(notice, OF_WORKERS):
            slot = self._slot(epoch, notice.slot)
            if isinstance(notice, WorkerChanged) and notice.state is SlotState.BACKOFF:
                self._ledger.record_spawn(slot, None, again=True)
            self._tell(replace(notice, slot=slot))
        elif isinstance(notice, Message):
            self._tell(replace(notice, text=f"{self._machine(epoch)}: {notice.text}"))
        elif isinstance(notice, MissingMetric):
            self._tell(notice)

    def _slot(self, epoch: int | None, number: int) -> Slot:
        machine = self._machine(epoch)
        if (machine, number) not in self._slots:
            slot, is_new = self._ledger.slot_at(machine, number)
            self._slots[machine, number] = slot
            if is_new:
                self._tell(WorkerNamed(slot, f"{machine}/w{number}"))
        return self._slots[machine, number]

    def _machine(self, epoch: int | None) -> str:
        name = None if epoch is None else self._ledger.machine(epoch)
        return name or f"node {epoch}"

    def _tell(self, notice: Notice) -> None:
        self._told.append(notice)
