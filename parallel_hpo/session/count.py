"""What a session asks before and after each run: the count of its sweep, in this process or on a server.

    loop ── demand, starts, ends ──▶ Count ──▶ count/rules ──▶ events: the log
         ◀── PoolAnswered, StartGranted, StartRefused ──┘

`LocalCount` applies the rules here, and its log is the ledger: a start is granted once it is on the disk.
`membership.RemoteCount` asks the sweep's pool on a server, whose log is the server's; its ledger is a copy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from parallel_hpo.core.errors import LedgerError, NoRoomError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.pool_messages import Granted, Join, PooledEnd, PooledStart, Versions
from parallel_hpo.core.types import Outcome, Parameters, RunId, Slot
from parallel_hpo.count import endings, rules
from parallel_hpo.count.state import Moment, Pool, PoolDraft, PoolRun, RunStatus
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import PoolAnswered, RecordDrop, RecordEnd, StartGranted, StartRefused
from parallel_hpo.session.decide.state import OpenRun
from parallel_hpo.session.outbox import Outbox
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware, StoppedError

CountEvent = PoolAnswered | StartGranted | StartRefused
"""Events for the loop from the count's answers."""
RETRY_S: Final = 1.0
"""Retry interval in seconds while the ledger can't be written; a person has to free the disk."""


class Count(ABC):
    """The count of a sweep, as a session's loop uses it; all methods are called in the loop's thread."""

    has_others = False
    """Whether other machines may run what this one leaves."""

    def __init__(self, ledger: Ledger) -> None:
        """`ledger` has what this machine has done."""
        self.ledger = ledger

    @property
    def due_at(self) -> float | None:
        """When `tick` is due, in monotonic seconds; None: only the loop's messages matter."""
        return None

    def tick(self) -> None:  # noqa: B027 - not all counts have limits of time
        """Let limits of time act, and try again what could not be written."""

    def known(self, run_id: RunId) -> RunRow | None:
        """Return the record of a run, None if it has never started here."""
        return self.ledger.run(run_id)

    def begun_with(self, parameters: Parameters) -> int:
        """Return how many runs with these parameters have begun here."""
        return self.ledger.begun_with(parameters)

    def spawn(self, slot: Slot, device: str | None, *, again: bool) -> None:
        """Record that a process starts in a slot; `again`: it replaces one."""
        self.note("spawned", {"slot": int(slot), "device": device, "again": again})

    def quarantine(self, device: str, reason: str) -> None:
        """Record that a device gets no runs for a while."""
        self.note("quarantined", {"device": device, "reason": reason})

    @abstractmethod
    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Log an event of this machine that changes no count."""

    @abstractmethod
    def ask(self, start: PooledStart, needs: PoolNeeds) -> None:
        """Ask whether an attempt may start: StartGranted or StartRefused follows.

        `needs` is the demand with the attempt started.
        """

    @abstractmethod
    def withdraw(self, end: PooledEnd) -> None:
        """Withdraw a start, which may have been counted already."""

    @abstractmethod
    def end(self, end: PooledEnd) -> None:
        """Report the end of an attempt, or of a run that waited for another one."""

    @abstractmethod
    def publish(self, needs: PoolNeeds) -> None:
        """Publish this machine's demand."""

    @abstractmethod
    def take(self) -> list[CountEvent]:
        """Return the answers since the last call."""

    def exchange(self, needs: Callable[[], PoolNeeds], handle: Callable[[CountEvent], None]) -> None:
        """Exchange what a turn of the loop has brought, and handle the answers, until there are none.

        Once a turn, not once an event: of many workers, all starts then wait for the disk together.
        """
        self.tick()
        self.publish(needs())
        while answers := self.take():
            for answer in answers:
                handle(answer)
            self.publish(needs())

    @abstractmethod
    def flush(self, waits: StopAware) -> None:
        """Wait until all ends are recorded, as long as a stop allows; raises StoppedError."""

    def conclude(self, ending: SweepEnd) -> None:  # noqa: B027 - a machine leaves after its last process
        """Record the end of this launch's part."""


class LocalCount(Count):
    """The count of a sweep on this machine, logged in its ledger.

    Raises:
        LedgerError: the ledger can't be written, and waiting does not help.
    """

    def __init__(
        self,
        ledger: Ledger,
        pool: Pool,
        waiting: Iterable[PoolRun],
        *,
        workers: int,
        now: Callable[[], float],
        control: Control,
        observer: Observer,
    ) -> None:
        """Join the count as its only machine.

        Args:
            pool: the count, with what earlier launches have done.
            waiting: runs that they have left open.
            now: seconds since the epoch, from a clock that is never set.

        Raises:
            NoRoomError: the ledger can't be written now.
        """
        super().__init__(ledger)
        self._now = now
        self._control = control
        self._observer = observer
        self._retry_at: float | None = None
        self._answers: list[CountEvent] = []
        self._last = Granted()
        self._notes: list[tuple[str, Mapping[str, object]]] = []
        """Kinds and bodies of events that are to be logged."""
        self._known: tuple[RunId, RunRow | None] | None = None
        """The run that was looked up last."""
        draft = PoolDraft(pool, (), waiting, self._moment())
        request = Join("", Versions("", "", ""), workers)
        self._node = rules.join(draft, request).epoch
        self._outbox = Outbox(self._node)
        self._told = PoolNeeds()
        """The demand of the last exchange."""
        self._pool, self._nodes, self._runs = draft.pool, draft.nodes, draft.runs
        ledger.append(draft.events, durable=False)  # on a full disk the session does not begin

    # --- what is known -----------------------------------------------------------------

    def known(self, run_id: RunId) -> RunRow | None:
        if self._outbox.names(run_id):
            self._exchange_pending()
        return self._row_of(run_id)

    def begun_with(self, parameters: Parameters) -> int:
        self._exchange_pending()
        return super().begun_with(parameters)

    def _row_of(self, run_id: RunId) -> RunRow | None:
        if self._known is None or self._known[0] != run_id:
            self._known = run_id, self.ledger.run(run_id)
        return self._known[1]

    @property
    def due_at(self) -> float | None:
        """When time changes what may run, or the ledger is tried again."""
        if self._retry_at is not None:
            return self._retry_at
        left_s = endings.time_left(self._pool, self._now())
        return None if left_s is None else self._control.clock() + left_s

    # --- what happens ------------------------------------------------------------------

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        self._notes.append((kind, body))

    def ask(self, start: PooledStart, needs: PoolNeeds) -> None:
        self._outbox.ask(start, needs)

    def withdraw(self, end: PooledEnd) -> None:
        self._outbox.withdraw(end)

    def end(self, end: PooledEnd) -> None:
        self._outbox.end(end)

    def publish(self, needs: PoolNeeds) -> None:
        """Exchange all that has happened since the last call, in one transaction."""
        self._outbox.needs = needs
        self._exchange_pending()

    def _exchange_pending(self) -> None:
        """Exchange what the last exchange did not have, unless the ledger has no room."""
        is_news = self._outbox.has_pending or bool(self._notes) or self._outbox.needs != self._told
        if is_news and self._retry_at is None:
            self._exchange()

    def tick(self) -> None:
        due_at = self.due_at
        if due_at is not None and due_at <= self._control.clock():
            self._exchange()

    def take(self) -> list[CountEvent]:
        taken, self._answers = self._answers, []
        return taken

    # --- the end -----------------------------------------------------------------------

    def flush(self, waits: StopAware) -> None:
        """Record what is pending, as long as a stop allows; warn about the rest, which `--resume` repeats."""
        try:
            while self._outbox.has_pending or self._notes:
                self._exchange()
                if self._retry_at is not None:
                    waits.sleep(RETRY_S)
        except (StoppedError, LedgerError) as error:
            why = f": {error}" if isinstance(error, LedgerError) else ""
            records = "1 record" if self._outbox.size == 1 else f"{self._outbox.size} records"
            words = f"{records} could not be written into the ledger{why}"
            self._observer(Message(f"{words}: --resume runs these runs again", warning=True))

    def conclude(self, ending: SweepEnd) -> None:
        draft = self._draft()
        endings.stop(draft, ending)
        rules.leave(draft, self._node, ending.reason)
        self._log(draft, durable=False)

    # --- rules and log -----------------------------------------------------------------

    def _moment(self) -> Moment:
        now = self._now()
        return Moment(now, now)

    def _draft(self, *named: RunId) -> PoolDraft:
        """Return the state as a draft, with those of the `named` runs that have ended."""
        ended = [self._ended(run_id) for run_id in named if run_id not in self._runs]
        runs = [*self._runs.values(), *(run for run in ended if run is not None)]
        return PoolDraft(self._pool, self._nodes.values(), runs, self._moment())

    def _ended(self, run_id: RunId) -> PoolRun | None:
        row = self._row_of(run_id)
        if row is None:
            return None
        return PoolRun(
            run_id=run_id,
            status=RunStatus.ENDED,
            epoch=None,
            attempt=row.attempts,
            on=False,
            since=0.0,
            parameters={},
            outcome=row.outcome,
        )

    def _exchange(self) -> None:
        message = self._outbox.compose()
        draft = self._draft(*(start.run.run_id for start in message.starts))
        for kind, body in self._notes:
            draft.add_event(kind, self._node, body)
        endings.end_if_late(draft)
        answer = rules.exchange(draft, message)
        if not self._log(draft, durable=bool(answer.started)):
            return
        self._notes.clear()
        self._told = self._outbox.needs
        self._answers += self._outbox.acknowledge(message, answer)
        if content_of(answer) != content_of(self._last):
            self._answers.append(PoolAnswered(answer))
        self._last = answer

    def _log(self, draft: PoolDraft, *, durable: bool) -> bool:
        """Log a draft's events, then make it the state; return False if the ledger has no room."""
        try:
            if draft.events:
                self.ledger.append(draft.events, durable=durable)
        except LedgerError as error:
            if not isinstance(error, NoRoomError) and not self._control.stops:
                raise
            self._wait(error)
            return False
        if self._retry_at is not None:
            self._retry_at = None
            self._observer(Message("the ledger can be written again: the sweep goes on"))
        self._pool, self._nodes = draft.pool, draft.nodes
        self._runs = {key: run for key, run in draft.runs.items() if run.status is not RunStatus.ENDED}
        self._known = None
        return True

    def _wait(self, error: LedgerError) -> None:
        if self._retry_at is None and not self._control.stops:
            self._observer(Message(f"{error} The sweep waits until it can be written", warning=True))
        self._retry_at = self._control.clock() + RETRY_S


def content_of(answer: Granted) -> tuple[object, ...]:
    """Return what a loop must know of an answer, besides its starts."""
    return answer.granted, answer.each, answer.again, answer.held, answer.ends


def start_of(slot: Slot, run: OpenRun, device: str | None) -> PooledStart:
    """Return the start of an attempt, as the count takes it."""
    return PooledStart(run.pooled(), int(slot), device)


def end_of(record: RecordEnd) -> PooledEnd:
    """Return the end of an attempt, as the count takes it.

    Of a requeued run, the duration is that of this attempt only: the next one knows the earlier time.
    """
    run, end = record.run, record.end
    requeued = record.final and end.resumable
    return PooledEnd.like(
        end,
        run_id=run.run_id,
        attempt=run.attempt,
        final=record.final,
        slot=int(record.slot),
        duration_s=end.duration_s - run.spent_s if requeued else end.duration_s,
    )


def end_of_waiting(record: RecordDrop) -> PooledEnd:
    """Return the end of a run that gets no further attempt here."""
    end = record.end
    duration_s = 0.0 if end.resumable else end.duration_s
    return PooledEnd.like(end, run_id=record.run.run_id, attempt=None, duration_s=duration_s)


def end_of_withdrawn(run: OpenRun) -> PooledEnd:
    """Return the end of an attempt that a stop prevented after it may have been counted."""
    reason = "a stop came before it began"
    return PooledEnd(run.run_id, run.attempt, outcome=Outcome.STOPPED, reason=reason, resumable=True)
