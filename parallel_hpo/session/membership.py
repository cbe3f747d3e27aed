"""The count of a sweep on many machines, asked by one of them: it exchanges messages with the sweep's pool
on a server, keeps the lease, and kills all runs here in time.

    loop ── demand, starts, ends ──▶ outbox ──▶ exchange ──▶ pool
         ◀─ PoolAnswered, StartGranted ─┘         │
                                                  └ no answer for 0.9 of the lease, or "gone":
                                                    all processes here are killed

A start waits for the pool's answer; an end is sent soon. The fence has a thread of its own, as a request may
hang for any time. The log is the server's: the ledger here is a copy in memory.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from parallel_hpo.core.errors import ExitCode, ServerAwayError, ServerRefusedError
from parallel_hpo.core.notices import Message, Notice, Observer, SweepOpened
from parallel_hpo.core.pool_messages import (
    FENCE,
    Exchange,
    Granted,
    PooledEnd,
    PooledStart,
    PoolEvent,
    Versions,
    end_as_json,
    start_as_json,
)
from parallel_hpo.core.types import RunId, StopKind
from parallel_hpo.core.version import __version__, installed_client
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.count import Count, CountEvent, content_of
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import PoolAnswered, StartGranted, StopAsked
from parallel_hpo.session.outbox import Outbox
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware

EXCHANGE_EVERY_S: Final = 2.0
"""Maximum interval of exchanges, in seconds."""
EXCHANGES_PER_LEASE: Final = 30
"""Minimum number of exchanges per lease, so that many are tried before the fence."""
SOON_S: Final = 0.05
"""Delay of an end, in seconds: the next run's start mostly follows at once, and shares the message."""
NOTICES_S: Final = 0.5
"""Maximum delay of a notice, in seconds."""
RETRY_S: Final = 0.5
"""Wait in seconds before an unreachable server is asked again."""
ENDING_STATUSES: Final = (401, 403, 404)
"""Status codes that end an epoch: our key has expired, or the pool is gone."""
LEAVE_TRIES: Final = 3


REASON_CHARS: Final = 2_000
TRACEBACK_CHARS: Final = 20_000
"""Limits of texts sent to the pool, where they are for display; this machine's logs have all of it."""


class PoolConnection(Protocol):
    """The requests to a pool; each call ends within seconds."""

    def exchange(self, message: Exchange) -> Granted:
        """Exchange messages; raises ServerAwayError or ServerRefusedError."""

    def leave(self, epoch: int, reason: str) -> None:
        """Leave the pool, when nothing runs here any more; raises the same."""


def elapsed_s() -> float:
    """Return seconds that include time asleep, where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class RemoteCount(Count):
    """The count of a sweep, asked from its pool during one epoch of a machine; `open` starts its threads."""

    has_others = True

    def __init__(
        self,
        connection: PoolConnection,
        epoch: int,
        *,
        node_timeout_s: float,
        joined_at: float,
        control: Control,
        observer: Observer,
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        """`joined_at` is when the machine asked to join, by `clock`: the lease can't be older."""
        super().__init__(Ledger(None))  # a copy of what this machine has reported
        self.lost = ""
        """Why this epoch ended against our will; '' if it has not."""
        self._connection = connection
        self._epoch = epoch
        self._fence_s = FENCE * node_timeout_s
        self._exchange_every_s = min(EXCHANGE_EVERY_S, node_timeout_s / EXCHANGES_PER_LEASE)
        self._control = control
        self._observer = observer
        self._clock = clock
        self._answered_at = joined_at
        self._outbox = Outbox(epoch)
        self._answer: Granted | None = None
        self._events = 0
        self._asked: dict[RunId, PooledStart] = {}
        """Starts that wait for an answer, for the loop's thread."""
        self._answers: queue.SimpleQueue[CountEvent] = queue.SimpleQueue()
        self._exchange_at = joined_at
        self._turn = threading.Condition()
        """Lock of the outbox and the fields after it; notified if the next exchange moves forward."""
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"parallel_hpo-{what}", daemon=True)
            for what, work in (("pool", self._exchange_forever), ("fence", self._watch_fence))
        ]

    def open(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def joins_again(self) -> bool:
        """Return whether the epoch was lost and nobody else asked for a stop."""
        return bool(self.lost) and self._control.stops == 1  # the loss itself

    # --- for the loop ------------------------------------------------------------------

    def take(self) -> list[CountEvent]:
        taken = []
        while not self._answers.empty():
            taken.append(self._answers.get())
        for answer in taken:
            if isinstance(answer, PoolAnswered):
                continue
            start = self._asked.pop(answer.run_id, None)
            if isinstance(answer, StartGranted) and start is not None:
                self.note("started", start_as_json(start))
        return taken

    def publish(self, needs: PoolNeeds) -> None:
        """Publish this machine's demand."""
        with self._turn:
            before, self._outbox.needs = self._outbox.needs, needs
            if needs.exceed(before):  # a lower demand can wait for the next exchange
                self._exchange_within(0.0)

    def ask(self, start: PooledStart, needs: PoolNeeds) -> None:
        """Ask whether an attempt may start; the answer is posted as StartGranted or StartRefused.

        `needs` is the demand with the attempt started.
        """
        self._asked[start.run.run_id] = start
        with self._turn:
            self._outbox.ask(start, needs)
            self._exchange_within(0.0)

    def withdraw(self, end: PooledEnd) -> None:
        """Withdraw a start, which the pool may have counted already."""
        self._asked.pop(end.run_id, None)
        with self._turn:
            self._outbox.withdraw(end)
            self._exchange_within(SOON_S)

    def end(self, end: PooledEnd) -> None:
        """Send an attempt's end, as soon as possible."""
        self.note(end.kind, end_as_json(end))
        reason, traceback = end.reason[:REASON_CHARS], end.traceback[-TRACEBACK_CHARS:]
        with self._turn:
            self._outbox.end(replace(end, reason=reason, traceback=traceback))
            self._exchange_within(SOON_S)

    def notify(self, notice: Notice) -> None:
        """Send a notice to the coordinator."""
        with self._turn:
            self._outbox.note(notice)
            if self._outbox.has_notices:
                self._exchange_within(NOTICES_S)

    def flush(self, waits: StopAware) -> None:
        """Wait until all ends are sent, or this epoch has ended; raises StoppedError."""
        while self._has_pending():
            waits.sleep(self._exchange_every_s)

    def close(self, reason: str) -> None:
        """Leave the pool; no process of this machine may be left."""
        self._closing.set()
        with self._turn:
            self._turn.notify_all()
        for thread in self._threads:
            thread.join()
        if not self.lost:
            self._leave(reason)

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        self._events += 1
        self.ledger.append([PoolEvent(self._events, time.time(), None, kind, body)], durable=False)

    # --- the threads -------------------------------------------------------------------

    def exchange_once(self) -> bool:
        """Send all messages and take the answer; return False without one."""
        with self._turn:
            message = self._outbox.compose()
            self._exchange_at = self._clock() + self._exchange_every_s
        sent_at = self._clock()
        try:
            answer = self._connection.exchange(message)
        except ServerAwayError:
            return False
        except ServerRefusedError as error:
            if error.status not in ENDING_STATUSES:
                return False  # a bug of ours or a proxy's; the fence ends it
            self._lose(str(error))
            return True
        if answer.gone:
            self._lose("the sweep's pool took this machine for gone")
            return True
        with self._turn:
            self._answered_at = max(self._answered_at, sent_at)
            decided: list[CountEvent] = [*self._outbox.acknowledge(message, answer)]
            if self._is_news(answer):
                decided.append(PoolAnswered(answer))
            self._answer = answer
            for event in decided:
                self._answers.put(event)  # with the lock, so that no withdrawal comes between
        if decided:
            self._control.ring()
        return True

    def check_fence(self) -> float:
        """Return how many seconds are left until the fence; at 0, end the epoch."""
        left_s = self._answered_at + self._fence_s - self._clock()
        if left_s <= 0:
            self._lose(f"no answer from the sweep's pool for {self._fence_s:g} s")
        return max(0.0, left_s)

    def _exchange_forever(self) -> None:
        while not self._closing.is_set() and not self.lost:
            if not self.exchange_once():
                self._closing.wait(min(RETRY_S, self._exchange_every_s))
                continue
            with self._turn:
                while (left_s := self._exchange_at - self._clock()) > 0 and not self._closing.is_set():
                    self._turn.wait(left_s)

    def _watch_fence(self) -> None:
        while not self.lost and not self._closing.wait(self.check_fence()):
            pass

    def _lose(self, why: str) -> None:
        """Kill all runs here: from now on, other machines may run them again."""
        with self._turn:
            if self.lost or self._closing.is_set():
                return
            self.lost = why
        self._observer(Message(f"{why}: killing all runs here", warning=True))
        self._control.put(StopAsked(StopKind.KILL, why, ExitCode.RESUMABLE))

    def _is_news(self, answer: Granted) -> bool:
        """Return whether it differs from the last answer that the loop has received."""
        before = self._answer
        return before is None or content_of(answer) != content_of(before)

    def _exchange_within(self, within_s: float) -> None:
        at = self._clock() + within_s
        if at < self._exchange_at:
            self._exchange_at = at
            self._turn.notify_all()

    def _has_pending(self) -> bool:
        with self._turn:
            return self._outbox.has_pending and not self.lost

    def _leave(self, reason: str) -> None:
        for _ in range(LEAVE_TRIES):
            try:
                self._connection.leave(self._epoch, reason)
                return
            except ServerAwayError:
                time.sleep(min(RETRY_S, self._exchange_every_s))
            except ServerRefusedError:
                return


def versions_here() -> Versions:
    """Return the versions that all machines must share."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Versions(python, installed_client(), __version__)


class Relay:
    """An observer that passes notices to the user and to the coordinator; usable from any thread."""

    def __init__(self, observer: Observer, count: int | None) -> None:
        """`count` is the sweep's, over all machines."""
        self._observer = observer
        self._count = count
        self.membership: RemoteCount | None = None
        """Set during an epoch."""

    def __call__(self, notice: Notice) -> None:
        """Pass a notice on."""
        if isinstance(notice, SweepOpened):
            workers = "1 worker" if notice.workers == 1 else f"{notice.workers} workers"
            where = f"many machines, this one with {workers}"
            self._observer(replace(notice, count=self._count, machines=where))
        else:
            self._observer(notice)
        membership = self.membership
        if membership is not None:
            membership.notify(notice)
