"""Speaks for a machine with its sweep's pool: exchanges, keeps the lease, and lets go in time.

    loop ── wants, starts, ends ──▶ outbox ──▶ exchange ──▶ pool
         ◀─ PoolAnswered, a start's verdict ─┘     │
                                                   └ no answer for 0.9 of the lease, or "gone":
                                                     everything that runs here is killed

A start waits for the pool's word; an end is told as soon as can be. The fence has a thread of its
own, for a request may hang for as long as the network likes.

What a machine tells a pool: of attempts, of its software, and, while it is in one, notices.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from parallel_hpo.core.errors import ExitCode, ServerAwayError, ServerRefusedError
from parallel_hpo.core.libraries import installed_client
from parallel_hpo.core.notices import Message, Notice, Observer, SweepOpened
from parallel_hpo.core.pool_messages import (
    FENCE,
    Exchange,
    Granted,
    PooledEnd,
    PooledRun,
    PooledStart,
    Versions,
)
from parallel_hpo.core.types import Outcome, Slot, StopKind
from parallel_hpo.core.version import __version__
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import (
    PoolAnswered,
    RecordDrop,
    RecordEnd,
    StartGranted,
    StartRefused,
    StopAsked,
)
from parallel_hpo.session.decide.state import OpenRun
from parallel_hpo.session.outbox import Outbox
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware

BEAT_S: Final = 2.0
BEATS: Final = 30
"""A lease's beats at least; an exchange has that many tries before the fence."""
SOON_S: Final = 0.05
"""An end waits so long for the next run's start, which mostly comes at once, to be told with it."""
NOTICES_S: Final = 0.5
RETRY_S: Final = 0.5
"""After so long a server that does not answer is asked again."""
OVER_BY: Final = (401, 403, 404)
"""Refusals by which an epoch is over: our key is none any more, or the pool is gone."""
LEAVE_TRIES: Final = 3


PoolEvent = PoolAnswered | StartGranted | StartRefused
"""What the pool's answers are to the loop."""


class PoolConnection(Protocol):
    """What is asked of the pool; each call ends within seconds."""

    def exchange(self, told: Exchange) -> Granted:
        """Tell what there is to tell; raises ServerAwayError or ServerRefusedError."""

    def leave(self, epoch: int, reason: str) -> None:
        """Say that nothing runs here any more; raises the same."""


def elapsed_s() -> float:
    """Return seconds that go on while the machine is asleep, where the system counts such."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Membership:
    """One epoch of one machine; `open` starts its threads."""

    def __init__(
        self,
        line: PoolConnection,
        epoch: int,
        *,
        node_timeout_s: float,
        joined_at: float,
        control: Control,
        observer: Observer,
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        """`joined_at` is when `clock` said that joining was asked for: the lease is no older than that."""
        self.lost = ""
        """Why this epoch is over though nobody asked for it; '': it is not."""
        self._line = line
        self._epoch = epoch
        self._fence_s = FENCE * node_timeout_s
        self._beat_s = min(BEAT_S, node_timeout_s / BEATS)
        self._control = control
        self._observer = observer
        self._clock = clock
        self._heard_at = joined_at
        self._outbox = Outbox(epoch)
        self._answer: Granted | None = None
        self._post: Callable[[PoolEvent], None] | None = None
        self._due_at = joined_at
        self._turn = threading.Condition()
        """Guards all that follows the outbox, and is notified where an exchange comes earlier."""
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"parallel_hpo-{what}", daemon=True)
            for what, work in (("pool", self._exchange_forever), ("fence", self._watch_fence))
        ]

    def open(self) -> None:
        for thread in self._threads:
            thread.start()

    # --- for the loop ------------------------------------------------------------------

    def listen(self, post: Callable[[PoolEvent], None]) -> None:
        """Have `post` called in another thread with each start's answer, and each grant that is new."""
        with self._turn:
            self._post = post
            answer = self._answer
        if answer is not None:
            post(PoolAnswered(answer))

    def publish(self, needs: PoolNeeds) -> None:
        """Say what could be used here."""
        with self._turn:
            before, self._outbox.needs = self._outbox.needs, needs
            if needs.exceed(before):  # what is needed less can wait for the next exchange
                self._hurry(0.0)

    def ask(self, start: PooledStart, needs: PoolNeeds) -> None:
        """Ask whether an attempt may enter `main`; `needs` are those of a machine where it has.

        The answer is posted as a StartGranted or a StartRefused.
        """
        with self._turn:
            self._outbox.ask(start, needs)
            self._hurry(0.0)

    def withdraw(self, end: PooledEnd) -> None:
        """Have the pool told that an attempt does not start after all, where it may have counted it."""
        with self._turn:
            self._outbox.withdraw(end)
            self._hurry(SOON_S)

    def end(self, end: PooledEnd) -> None:
        """Have an end told, once it can be."""
        with self._turn:
            self._outbox.end(end)
            self._hurry(SOON_S)

    def note(self, notice: Notice) -> None:
        """Pass a notice on to whoever watches at the head."""
        with self._turn:
            self._outbox.note(notice)
            if self._outbox.has_notices:
                self._hurry(NOTICES_S)

    def settle(self, patience: StopAware) -> None:
        """Wait until all ends are told, or this epoch is over; raises StoppedError."""
        while self._owes():
            patience.sleep(self._beat_s)

    def close(self, reason: str) -> None:
        """Leave: nothing of this machine runs any more."""
        self._closing.set()
        with self._turn:
            self._turn.notify_all()
        for thread in self._threads:
            thread.join()
        if not self.lost:
            self._leave(reason)

    # --- the threads -------------------------------------------------------------------

    def exchange_once(self) -> bool:
        """Tell what there is, and take the answer; False: there was none."""
        with self._turn:
            told = self._outbox.compose()
            self._due_at = self._clock() + self._beat_s
        sent_at = self._clock()
        try:
            answer = self._line.exchange(told)
        except ServerAwayError:
            return False
        except ServerRefusedError as error:
            if error.status not in OVER_BY:
                return False  # a fault of ours, or a proxy's: the fence is what ends it
            self._lose(str(error))
            return True
        if answer.gone:
            self._lose("the sweep's pool took this machine for gone")
            return True
        with self._turn:
            self._heard_at = max(self._heard_at, sent_at)
            decided: list[PoolEvent] = [*self._outbox.settle(told, answer)]
            if self._is_news(answer):
                decided.append(PoolAnswered(answer))
            self._answer = answer
            post = self._post
        if post is not None:
            for event in decided:
                post(event)
        return True

    def look_at_fence(self) -> float:
        """Return how many seconds are left until everything must be let go; at 0 it is."""
        left_s = self._heard_at + self._fence_s - self._clock()
        if left_s <= 0:
            self._lose(f"no word from the sweep's pool for {self._fence_s:g} s")
        return max(0.0, left_s)

    def _exchange_forever(self) -> None:
        while not self._closing.is_set() and not self.lost:
            if not self.exchange_once():
                self._closing.wait(min(RETRY_S, self._beat_s))
                continue
            with self._turn:
                while (left_s := self._due_at - self._clock()) > 0 and not self._closing.is_set():
                    self._turn.wait(left_s)

    def _watch_fence(self) -> None:
        while not self.lost and not self._closing.wait(self.look_at_fence()):
            pass

    def _lose(self, why: str) -> None:
        """Have all that runs here killed: from now on it may be run again elsewhere."""
        with self._turn:
            if self.lost or self._closing.is_set():
                return
            self.lost = why
        self._observer(Message(f"{why}: what runs here is killed", warning=True))
        self._control.put(StopAsked(StopKind.KILL, why, ExitCode.RESUMABLE))

    def _is_news(self, answer: Granted) -> bool:
        """Whether it says something else than the one before, which the loop has been given."""
        before = self._answer
        return before is None or _what_counts(answer) != _what_counts(before)

    def _hurry(self, within_s: float) -> None:
        at = self._clock() + within_s
        if at < self._due_at:
            self._due_at = at
            self._turn.notify_all()

    def _owes(self) -> bool:
        with self._turn:
            return self._outbox.owes and not self.lost

    def _leave(self, reason: str) -> None:
        for _ in range(LEAVE_TRIES):
            try:
                self._line.leave(self._epoch, reason)
                return
            except ServerAwayError:
                time.sleep(min(RETRY_S, self._beat_s))
            except ServerRefusedError:
                return


def _what_counts(answer: Granted) -> tuple[object, ...]:
    return answer.granted, answer.each, answer.again, answer.ends


REASON_CHARS: Final = 2_000
TRACEBACK_CHARS: Final = 20_000
"""What the pool is told of an end is for people; all of it is in this machine's ledger and logs."""


def start_of(slot: Slot, run: OpenRun, device: str | None) -> PooledStart:
    """Return an attempt that is about to enter `main`."""
    pooled = PooledRun(
        *(run.run_id, run.parameters, run.attempt, run.spent_s, run.deaths, run.preemptions, run.seed)
    )
    return PooledStart(pooled, int(slot), device)


def end_of(record: RecordEnd) -> PooledEnd:
    """Return the end of an attempt.

    Of one that is handed on only what it took itself: the next one is told what was before.
    """
    run, end = record.run, record.end
    handed_on = record.final and end.resumable
    return PooledEnd.like(
        end,
        *(run.run_id, run.attempt, record.final, int(record.slot)),
        reason=end.reason[:REASON_CHARS],
        duration_s=end.duration_s - run.spent_s if handed_on else end.duration_s,
        traceback=end.traceback[-TRACEBACK_CHARS:],
    )


def end_of_waiting(record: RecordDrop) -> PooledEnd:
    """Return that a run gets no other attempt here."""
    end = record.end
    duration_s = 0.0 if end.resumable else end.duration_s
    return PooledEnd.like(end, record.run.run_id, None, duration_s=duration_s)


def never_begun(run: OpenRun) -> PooledEnd:
    """Return the end of an attempt that the pool may have counted as started, and that a stop forestalled."""
    reason = "a stop came before it began"
    return PooledEnd(run.run_id, run.attempt, outcome=Outcome.STOPPED, reason=reason, resumable=True)


def versions_here() -> Versions:
    """Return what must be the same on all machines."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Versions(python, installed_client(), __version__)


class Relay:
    """An observer for two; from any thread."""

    def __init__(self, observer: Observer, count: int | None) -> None:
        """`count` is the sweep's, over all machines."""
        self._observer = observer
        self._count = count
        self.membership: Membership | None = None
        """Set while there is one."""

    def __call__(self, notice: Notice) -> None:
        """Take a notice."""
        if isinstance(notice, SweepOpened):
            workers = "1 worker" if notice.workers == 1 else f"{notice.workers} workers"
            where = f"many machines, this one with {workers}"
            self._observer(replace(notice, count=self._count, machines=where))
        else:
            self._observer(notice)
        membership = self.membership
        if membership is not None:
            membership.note(notice)
