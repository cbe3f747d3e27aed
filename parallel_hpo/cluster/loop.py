"""The coordinator's loop: waits for stops, the pool's news and the nodes' ends, until the sweep ends.

    signals, program ─┐
    watcher: news    ─┼─▶ wait ─▶ copier, pool's stop, engine's stop ─▶ SweepEnd
    nodes: ends      ─┘

Nothing here waits for a network or an engine. Time to wait for machines once they must leave:

    done            LEAVE_TIMEOUT_S; later messages cannot change the count
    drain           as long as runs take
    interrupt       the grace period, and LEAVE_TIMEOUT_S
    kill            LEAVE_TIMEOUT_S
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from parallel_hpo.cluster.nodes import NodeEnded, NodeReport, NoMachinesLeft
from parallel_hpo.cluster.watcher import Answer, EventCopier, PoolWatcher
from parallel_hpo.core.errors import BackendError, ExitCode, NoRoomError, ServerRefusedError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.pool_messages import AT_ONCE, NodeLost, PoolNews
from parallel_hpo.core.types import StopKind
from parallel_hpo.session.membership import ENDING_STATUSES
from parallel_hpo.session.signals import CommandPipe, Control

LEAVE_TIMEOUT_S: Final = 5.0
"""Seconds for nodes to leave: they notice the end within 2 s, and need a second once nothing runs."""


@dataclass(frozen=True, slots=True)
class ShutdownDeadline:
    """The sweep's end, and the time until which to wait for machines."""

    ends: SweepEnd
    by: float | None
    """Monotonic seconds; None: wait as long as it takes."""


def shutdown_deadline(
    before: ShutdownDeadline | None, ends: SweepEnd, now: float, *, grace_s: float
) -> ShutdownDeadline:
    """Return the deadline after a new end; an end that is known already changes nothing."""
    if before is not None and before.ends.stop in (ends.stop, StopKind.KILL):
        return before
    match ends.stop:
        case StopKind.DRAIN:
            by = None
        case StopKind.INTERRUPT | StopKind.PREEMPT:
            by = now + grace_s + LEAVE_TIMEOUT_S
        case _:
            by = now + LEAVE_TIMEOUT_S
    if before is not None and before.by is not None:
        by = before.by if by is None else min(before.by, by)
    return ShutdownDeadline(ends, by)


def is_empty(news: PoolNews) -> bool:
    """Return whether the sweep has ended, all nodes have left, and all events were received."""
    return news.ends is not None and news.living == 0 and len(news.events) < AT_ONCE


NO_NODE_WARNING_S: Final = 30.0
"""Seconds without a node before a warning; an idle machine joins within a few seconds."""
AWAY_WARNING_S: Final = 10.0
"""Seconds without the server before a warning; a restart takes a second or two."""
STOP_NODES_BEFORE_S: Final = 3.0
"""Seconds before the shutdown deadline at which the engine is asked to end the remaining nodes."""


class ClusterLoop:
    """The loop of one sweep's coordinator."""

    def __init__(
        self,
        *,
        control: Control,
        command_pipe: CommandPipe,
        watcher: PoolWatcher,
        copier: EventCopier,
        observer: Observer,
        stop_nodes: Callable[[], None] | None,
        reports: queue.SimpleQueue[NodeReport | Answer],
        grace_s: float,
    ) -> None:
        """Keep the arguments; start nothing.

        Args:
            stop_nodes: None without an engine: machines join by themselves.
            reports: those of the watcher and the nodes; each also rings the control's bell.
        """
        self._control = control
        self._command_pipe = command_pipe
        self._watcher = watcher
        self._copier = copier
        self._observer = observer
        self._stop_nodes = stop_nodes
        self._reports = reports
        self._grace_s = grace_s
        self._clock = control.clock
        self._news: PoolNews | None = None
        self._deadline: ShutdownDeadline | None = None
        self._ended: list[NodeEnded] = []
        self._none_left = ""
        self._away_since: float | None = None
        self._away_warned = False
        self._no_room = False
        self._no_node_since: float | None = self._clock()
        """Since when there is no node; None: there is one, or the warning was given."""
        self._nodes_stopped = False
        self._lost = ""

    def run(self) -> SweepEnd:
        """Run until all nodes have left or the shutdown deadline has passed; return the sweep's end."""
        self._watcher.open()
        while not self._is_over():
            self._control.wait(self._wait_s())
            self._take_asked()
            while not self._reports.empty():
                self._take(self._reports.get())
            self._end_where_none_is_left()
            self._stop_nodes_in_time()
        self._watcher.close()
        return self._ending()

    def _is_over(self) -> bool:
        if self._news is not None and is_empty(self._news):
            return True
        by = None if self._deadline is None else self._deadline.by
        return bool(self._lost) or (by is not None and self._clock() >= by)

    def _wait_s(self) -> float:
        by = None if self._deadline is None else self._deadline.by
        return 1.0 if by is None else min(1.0, max(0.0, by - self._clock()))

    def _ending(self) -> SweepEnd:
        ends = self._deadline.ends if self._deadline else None
        if self._news is not None and self._news.ends is not None:
            ends = self._news.ends
        if ends is None or self._lost:
            return SweepEnd(self._lost, ExitCode.OUR_FAULT, StopKind.KILL)
        return ends

    # --- what comes in -----------------------------------------------------------------

    def _take_asked(self) -> None:
        for asked in self._control.take():
            before = self._deadline
            if before is None:
                self._end(SweepEnd(asked.reason, asked.exit_code, asked.kind))
            elif asked.kind is not StopKind.DRAIN:
                kind = asked.kind if before.ends.stop is StopKind.DRAIN else StopKind.KILL
                self._end(SweepEnd(asked.reason, asked.exit_code, kind))
        for _ in self._command_pipe.take():
            words = "workers of many machines can't be scaled or drained: stop a machine's node instead"
            self._observer(Message(words, warning=True))

    def _take(self, report: NodeReport | Answer) -> None:
        match report:
            case PoolNews():
                self._take_news(report)
            case BackendError():
                self._take_error(report)
                self._watcher.handled()
            case NodeEnded():
                self._ended.append(report)
            case NoMachinesLeft(reason):
                self._none_left = reason
            case Message():
                self._observer(report)

    def _take_news(self, news: PoolNews) -> None:
        if self._away_warned:
            self._observer(Message("the sweep's pool answers again"))
        self._away_since, self._away_warned = None, False
        try:
            self._copier.take(news)
        except NoRoomError as error:
            if not self._no_room:
                words = f"{error} What machines do is written once it can be"
                self._observer(Message(words, warning=True))
            self._no_room = True
        else:
            self._news, self._no_room = news, False
            self._warn_without_nodes()
            if news.ends is not None:
                self._leave(news.ends)
        self._watcher.handled()
        self._pass_on_ended()

    def _take_error(self, error: BackendError) -> None:
        if isinstance(error, ServerRefusedError) and error.status in ENDING_STATUSES:
            self._lost = f"the sweep's pool is gone: {error}"
            return
        now = self._clock()
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= AWAY_WARNING_S and not self._away_warned:
            self._away_warned = True
            words = f"the sweep's pool can't be reached: {error}; retrying, and runs go on meanwhile"
            self._observer(Message(words, warning=True))

    def _warn_without_nodes(self) -> None:
        if self._news is not None and (self._news.living or self._news.ends):
            self._no_node_since = None
        if self._no_node_since is not None and self._clock() - self._no_node_since >= NO_NODE_WARNING_S:
            self._no_node_since = None
            words = "no machine has joined yet: the sweep waits for one, and ends by Ctrl-C"
            self._observer(Message(words, warning=True))

    def _pass_on_ended(self) -> None:
        """Report ended nodes to the pool by their epochs, once the copier knows these."""
        unknown = []
        for ended in self._ended:
            node = self._copier.node_of(ended.token)
            if node is None:
                unknown.append(ended)  # its join may be among news yet to come
            else:
                epoch, name = node
                self._watcher.lost(NodeLost(name, ended.returned, ended.reason, epoch))
        self._ended = unknown

    # --- what follows ------------------------------------------------------------------

    def _end_where_none_is_left(self) -> None:
        if self._none_left and self._deadline is None and self._news is not None and not self._news.living:
            reason = f"no machine can have a node: {self._none_left}"
            self._end(SweepEnd(reason, ExitCode.FAILURE_POLICY, StopKind.INTERRUPT))

    def _end(self, ends: SweepEnd) -> None:
        self._watcher.stop(ends)
        self._leave(ends)

    def _leave(self, ends: SweepEnd) -> None:
        self._deadline = shutdown_deadline(self._deadline, ends, self._clock(), grace_s=self._grace_s)

    def _stop_nodes_in_time(self) -> None:
        """Have the engine end the nodes shortly before the deadline, or at once for a kill."""
        if self._stop_nodes is None or self._nodes_stopped or self._deadline is None:
            return
        by, kind = self._deadline.by, self._deadline.ends.stop
        if kind is StopKind.KILL or (by is not None and self._clock() >= by - STOP_NODES_BEFORE_S):
            self._stop_nodes()
            self._nodes_stopped = True
