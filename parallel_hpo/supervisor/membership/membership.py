"""Speaks for a machine with its sweep's pool: exchanges, keeps the lease, and lets go in time.

    loop ── wants, starts, ends ──▶ outbox ──▶ exchange ──▶ pool
         ◀─ PoolAnswered, a start's verdict ─┘     │
                                                   └ no answer for 0.9 of the lease, or "gone":
                                                     everything that runs here is killed

A start waits for the pool's word; an end is told as soon as can be. The fence has a thread of its
own, for a request may hang for as long as the network likes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from parallel_hpo.errors import ExitCode, ServerAwayError, ServerRefusedError
from parallel_hpo.notices import Message, Notice, Observer
from parallel_hpo.protocol.pool import FENCE, Exchange, Granted, PooledEnd, PooledStart
from parallel_hpo.supervisor.control.patience import Patience
from parallel_hpo.supervisor.control.signals import Control
from parallel_hpo.supervisor.decisions.events import PoolAnswered, StartGranted, StartRefused, StopAsked
from parallel_hpo.supervisor.decisions.grants import PoolNeeds
from parallel_hpo.supervisor.membership.outbox import Outbox
from parallel_hpo.words import StopKind

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


class NodeLine(Protocol):
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
        line: NodeLine,
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

    def settle(self, patience: Patience) -> None:
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
