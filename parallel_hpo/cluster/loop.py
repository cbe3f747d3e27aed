"""How long a head waits for its machines once they are to leave. Pure.

nothing left    FAREWELL_S: whoever is not heard in that time has nothing that counts
drain           as long as runs take
interrupt       the grace period, and FAREWELL_S
kill            FAREWELL_S

The head's loop: waits once, hears stops, the pool and the crew, and lets the sweep end in time.

    signals, program ─┐
    line: news       ─┼─▶ wait ─▶ mirror, pool's stop, engine's stop ─▶ Ending
    crew: ends       ─┘

Nothing here waits for a network or an engine.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from parallel_hpo.cluster.nodes import CrewReport, NodeEnded, NoMachinesLeft
from parallel_hpo.cluster.watcher import Answer, EventCopier, PoolWatcher
from parallel_hpo.core.errors import BackendError, ExitCode, NoRoomError, ServerRefusedError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.pool_messages import AT_ONCE, NodeLost, PoolNews
from parallel_hpo.core.types import StopKind
from parallel_hpo.session.membership import OVER_BY
from parallel_hpo.session.signals import CommandPipe, Control

FAREWELL_S: Final = 5.0
"""Nodes hear of an end within 2 s, and leave in a second once nothing runs."""


@dataclass(frozen=True, slots=True)
class ShutdownDeadline:
    """The machines are to leave; times are monotonic seconds."""

    ends: SweepEnd
    by: float | None
    """From then on nobody is waited for; None: as long as it takes."""


def leaving(
    before: ShutdownDeadline | None, ends: SweepEnd, now: float, *, grace_s: float
) -> ShutdownDeadline:
    """Return what is waited for after an end was asked or told; one that is known changes nothing."""
    if before is not None and before.ends.stop in (ends.stop, StopKind.KILL):
        return before
    match ends.stop:
        case StopKind.DRAIN:
            by = None
        case StopKind.INTERRUPT | StopKind.PREEMPT:
            by = now + grace_s + FAREWELL_S
        case _:
            by = now + FAREWELL_S
    if before is not None and before.by is not None:
        by = before.by if by is None else min(before.by, by)
    return ShutdownDeadline(ends, by)


def is_empty(news: PoolNews) -> bool:
    """Whether all has been heard of a pool in which nobody is any more."""
    return news.ends is not None and news.living == 0 and len(news.events) < AT_ONCE


ALONE_SAID_AFTER_S: Final = 30.0
"""A node has joined within some seconds, where its machine is there and idle."""
AWAY_SAID_AFTER_S: Final = 10.0
"""A server that is restarted is away for a second or two, which nobody needs to know."""
STOP_CREW_BEFORE_S: Final = 3.0
"""So long before nobody is waited for any more the engine is asked to end what is left."""


@dataclass(frozen=True, slots=True)
class ClusterTools:
    """What the loop speaks to."""

    control: Control
    mailbox: CommandPipe
    line: PoolWatcher
    mirror: EventCopier
    observer: Observer
    stop_crew: Callable[[], None] | None
    """None: there is no engine, machines come by themselves."""
    reports: queue.SimpleQueue[CrewReport | Answer]
    """What the line and the crew post; the control's bell rings for it."""
    grace_s: float


class ClusterLoop:
    """Watches over one sweep's machines from its opening to its end."""

    def __init__(self, watched: ClusterTools) -> None:
        self._it = watched
        self._clock = watched.control.clock
        self._news: PoolNews | None = None
        self._leaving: ShutdownDeadline | None = None
        self._ended: list[NodeEnded] = []
        self._none_left = ""
        self._away_since: float | None = None
        self._away_said = False
        self._no_room = False
        self._alone_since: float | None = self._clock()
        """None: somebody is there, or it has been said."""
        self._crew_stopped = False
        self._lost = ""

    def run(self) -> SweepEnd:
        """Return how the sweep ended, once nobody takes part any more or nobody is waited for."""
        self._it.line.open()
        while not self._is_over():
            self._it.control.wait(self._wait_s())
            self._take_asked()
            while not self._it.reports.empty():
                self._take(self._it.reports.get())
            self._end_where_none_is_left()
            self._stop_crew_in_time()
        self._it.line.close()
        return self._ending()

    def _is_over(self) -> bool:
        if self._news is not None and is_empty(self._news):
            return True
        by = None if self._leaving is None else self._leaving.by
        return bool(self._lost) or (by is not None and self._clock() >= by)

    def _wait_s(self) -> float:
        by = None if self._leaving is None else self._leaving.by
        return 1.0 if by is None else min(1.0, max(0.0, by - self._clock()))

    def _ending(self) -> SweepEnd:
        ends = self._leaving.ends if self._leaving else None
        if self._news is not None and self._news.ends is not None:
            ends = self._news.ends
        if ends is None or self._lost:
            return SweepEnd(self._lost, ExitCode.OUR_FAULT, StopKind.KILL)
        return ends

    # --- what comes in -----------------------------------------------------------------

    def _take_asked(self) -> None:
        for asked in self._it.control.take():
            before = self._leaving
            if before is None:
                self._end(SweepEnd(asked.reason, asked.exit_code, asked.kind))
            elif asked.kind is not StopKind.DRAIN:
                kind = asked.kind if before.ends.stop is StopKind.DRAIN else StopKind.KILL
                self._end(SweepEnd(asked.reason, asked.exit_code, kind))
        for _ in self._it.mailbox.take():
            words = "workers of many machines are neither scaled nor drained: stop a machine's node for that"
            self._it.observer(Message(words, warning=True))

    def _take(self, report: CrewReport | Answer) -> None:
        match report:
            case PoolNews():
                self._heed(report)
            case BackendError():
                self._hear_trouble(report)
                self._it.line.heeded()
            case NodeEnded():
                self._ended.append(report)
            case NoMachinesLeft(reason):
                self._none_left = reason
            case Message():
                self._it.observer(report)

    def _heed(self, news: PoolNews) -> None:
        if self._away_said:
            self._it.observer(Message("the sweep's pool answers again"))
        self._away_since, self._away_said = None, False
        try:
            self._it.mirror.take(news)
        except NoRoomError as error:
            if not self._no_room:
                words = f"{error} What machines do is written once it can be"
                self._it.observer(Message(words, warning=True))
            self._no_room = True
        else:
            self._news, self._no_room = news, False
            self._say_where_nobody_is()
            if news.ends is not None:
                self._leave(news.ends)
        self._it.line.heeded()
        self._pass_on_ended()

    def _hear_trouble(self, error: BackendError) -> None:
        if isinstance(error, ServerRefusedError) and error.status in OVER_BY:
            self._lost = f"the sweep's pool is no longer to be had: {error}"
            return
        now = self._clock()
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= AWAY_SAID_AFTER_S and not self._away_said:
            self._away_said = True
            words = f"the sweep's pool can't be asked: {error}; it is asked again, and runs go on meanwhile"
            self._it.observer(Message(words, warning=True))

    def _say_where_nobody_is(self) -> None:
        if self._news is not None and (self._news.living or self._news.ends):
            self._alone_since = None
        if self._alone_since is not None and self._clock() - self._alone_since >= ALONE_SAID_AFTER_S:
            self._alone_since = None
            words = "no machine has joined yet: the sweep waits for one, and ends by Ctrl-C"
            self._it.observer(Message(words, warning=True))

    def _pass_on_ended(self) -> None:
        """Tell the pool of nodes that have ended, by the epoch that they joined with, if they did."""
        unknown = []
        for ended in self._ended:
            node = self._it.mirror.node_of(ended.token)
            if node is None:
                unknown.append(ended)  # that it joined may be among news that have not come yet
            else:
                epoch, name = node
                self._it.line.lost(NodeLost(name, ended.returned, ended.reason, epoch))
        self._ended = unknown

    # --- what follows ------------------------------------------------------------------

    def _end_where_none_is_left(self) -> None:
        if self._none_left and self._leaving is None and self._news is not None and not self._news.living:
            reason = f"no machine can have a node: {self._none_left}"
            self._end(SweepEnd(reason, ExitCode.FAILURE_POLICY, StopKind.INTERRUPT))

    def _end(self, ends: SweepEnd) -> None:
        self._it.line.stop(ends)
        self._leave(ends)

    def _leave(self, ends: SweepEnd) -> None:
        self._leaving = leaving(self._leaving, ends, self._clock(), grace_s=self._it.grace_s)

    def _stop_crew_in_time(self) -> None:
        """Have the engine end what has not left in time, or at once where all is to be killed."""
        if self._it.stop_crew is None or self._crew_stopped or self._leaving is None:
            return
        by, kind = self._leaving.by, self._leaving.ends.stop
        if kind is StopKind.KILL or (by is not None and self._clock() >= by - STOP_CREW_BEFORE_S):
            self._it.stop_crew()
            self._crew_stopped = True
